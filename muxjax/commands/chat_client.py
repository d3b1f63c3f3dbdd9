"""The little of OpenAI's HTTP interface that a conversation needs, with the standard library alone."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any

from muxjax.errors import ConfigError, MuxError

Message = dict[str, str]
_KEY = "OPENAI_API_KEY"
_SILENCE_S = 600


class ChatClient:
    """A server by the address of its API; the key, if it wants one, is $OPENAI_API_KEY."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise ConfigError(f"the address must begin with http:// or https://, got {url!r}", field="url")

    def models(self) -> list[str]:
        """Names in the server's order.

        Raises:
          ConfigError: nothing answers there as a server of models would.
        """
        with self._open("models") as response:
            try:
                names = [model["id"] for model in json.load(response)["data"]]
            except (ValueError, KeyError, TypeError) as error:
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

    def _open(self, path: str, body: dict[str, Any] | None = None) -> HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if os.environ.get(_KEY):
            headers["Authorization"] = f"Bearer {os.environ[_KEY]}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{path}", data=data, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=_SILENCE_S)
        except urllib.error.HTTPError as error:
            raise MuxError(_message(error.read()) or f"{self._url}/{path}: {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise ConfigError(f"no server at {self._url}: {getattr(error, 'reason', error)}", field="url") from error


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
    except (ValueError, KeyError, TypeError):
        return ""
