"""The little of OpenAI's HTTP interface that a conversation needs, with the standard library alone."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any

from muxjax.bench.address import checked, key_in
from muxjax.errors import ConfigError, MuxError

Message = dict[str, str]
_SILENCE_S = 600
_MOST_BYTES = 2**24


class ChatClient:
    """A server by the address of its API.

    Args:
      key: that it wants, "" for none; None for the one in $OPENAI_API_KEY.
    """

    def __init__(self, url: str, key: str | None = None):
        self._url = checked(url).rstrip("/")
        self._key = key_in(os.environ, key)

    def models(self) -> list[str]:
        """Names in the server's order.

        Raises:
          ConfigError: nothing answers there as a server of models would.
        """
        with self._open("models") as response:
            try:
                names = [str(model["id"]) for model in json.loads(response.read(_MOST_BYTES))["data"]]
            except (ValueError, LookupError, TypeError, RecursionError, OSError, HTTPException) as error:
                raise ConfigError(f"{self._url}/models is no list of models", field="url") from error
        if not names:
            raise ConfigError(f"{self._url} serves no model", field="url")
        return names

    def answer(self, model: str, messages: Sequence[Message]) -> Generator[str, None, None]:
        """The answer's text, part by part; closing the generator ends it on the server too.

        Raises:
          MuxError: what the server says is wrong, or that it is gone.
        """
        with self._open("chat/completions", {"model": model, "messages": list(messages), "stream": True}) as response:
            try:
                for line in response:
                    event = _event(line)
                    if event and event["choices"]:
                        yield event["choices"][0]["delta"].get("content") or ""
            except (OSError, HTTPException) as error:
                raise MuxError(f"the connection to {self._url} broke: {error}") from error
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise MuxError(f"what {self._url} sends is no answer of a chat") from error

    def _open(self, path: str, body: dict[str, Any] | None = None) -> HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{path}", data=data, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=_SILENCE_S)
        except urllib.error.HTTPError as error:
            raise MuxError(_message(error.read(_MOST_BYTES)) or f"{self._url}/{path}: {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise ConfigError(f"no server at {self._url}: {getattr(error, 'reason', error)}", field="url") from error
        except ValueError as error:  # such as a host that no resolver takes
            raise ConfigError(f"no server at {self._url}: {error}", field="url") from error


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line of a stream, if it has one.

    Raises:
      MuxError: the event is an error.
    """
    if not line.startswith(b"data: {"):
        return None
    event = json.loads(line[6:])
    if "error" in event:
        raise MuxError(event["error"]["message"])
    return event


def _message(body: bytes) -> str:
    """The message of an error's JSON, "" if it is none."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
