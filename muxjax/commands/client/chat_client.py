"""The little of OpenAI's HTTP interface that a conversation needs."""

import json
import os
from collections.abc import Generator, Sequence
from http.client import HTTPException
from typing import Any

from muxjax.bench.client.address import api_url, key_in
from muxjax.commands.client.http import BROKEN, MOST_BYTES, JsonServer
from muxjax.errors import ConfigError, MuxError

Message = dict[str, str]


class ChatClient:
    """A server by the address of its API, or by its own.

    Args:
      key: that it wants, "" for none; None for the one in $OPENAI_API_KEY.
      how: it is reached, as of `JsonServer`.
    """

    def __init__(self, url: str, key: str | None = None, **how: Any):
        self._server = JsonServer(api_url(url), key_in(os.environ, key), **how)

    def models(self) -> list[str]:
        """Names in the server's order.

        Raises:
          ConfigError: nothing answers there as a server of models would.
        """
        url = self._server.url
        with self._server.open("models") as response:
            try:
                names = [str(model["id"]) for model in json.loads(response.read(MOST_BYTES))["data"]]
            except BROKEN as error:
                raise ConfigError(f"{url}/models is no list of models", field="url") from error
        if not names:
            raise ConfigError(f"{url} serves no model", field="url")
        return names

    def answer(self, model: str, messages: Sequence[Message]) -> Generator[str, None, None]:
        """The answer's text, part by part; closing the generator ends it on the server too.

        Raises:
          MuxError: what the server says is wrong, or that it is gone.
        """
        with self._server.open("chat/completions", {"model": model, "messages": list(messages), "stream": True}) as response:
            try:
                for line in response:
                    event = _event(line)
                    if event and event["choices"]:
                        yield event["choices"][0]["delta"].get("content") or ""
            except (OSError, HTTPException) as error:
                raise MuxError(f"the connection to {self._server.url} broke: {error}") from error
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise MuxError(f"what {self._server.url} sends is no answer of a chat") from error


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
