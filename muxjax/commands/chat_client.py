"""The little of OpenAI's HTTP interface that a conversation needs, with the standard library alone."""

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any

from muxjax.errors import ConfigError, MuxError

Message = dict[str, str]
_KEY = "OPENAI_API_KEY"
_SILENCE_S = 600
_MOST_BYTES = 2**24
_MOST_SHOWN = 200


class ChatClient:
    """A server by the address of its API; the key, if it wants one, is $OPENAI_API_KEY."""

    def __init__(self, url: str):
        self._url = _checked(url).rstrip("/")
        self._key = os.environ.get(_KEY, "")
        if not re.fullmatch(r"[!-~]*", self._key):  # the key itself is not told
            raise ConfigError(f"the key in {_KEY} must be printable ASCII without spaces", field="key")

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


def _checked(url: str) -> str:
    """The address, which urllib can take apart.

    Raises:
      ConfigError: it cannot, or begins otherwise.
    """
    what = f"got {url[:_MOST_SHOWN]!r}"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the address must begin with http:// or https://, {what}", field="url")
    try:
        parts = urllib.parse.urlsplit(url)
        problem = "" if parts.hostname and parts.port != 0 else "it names no host and port"
    except ValueError as error:
        problem = str(error)
    if not re.fullmatch("[!-~]+", url):
        problem = "it has other characters than ASCII's, or spaces"
    if problem:
        raise ConfigError(f"the address must be such as http://127.0.0.1:8000/v1, {what}: {problem}", field="url")
    return url


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
