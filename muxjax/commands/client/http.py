"""A server of JSON over HTTP, with the standard library alone, whose errors are told in words."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import Any

from muxjax.errors import ConfigError, MuxError

SILENCE_S = 600
MOST_BYTES = 2**24
_STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError, HTTPException)
"""What reading an answer may raise that is not what it should be."""


class JsonServer:
    """A server by its address.

    Args:
      url: that paths are put behind, without a slash at its end.
      key: that is sent with every request, "" for none.
      silence_s: time without a word of it after which it is gone.
      straight: by no proxy, whatever the environment names.
    """

    def __init__(self, url: str, key: str, *, silence_s: float = SILENCE_S, straight: bool = False):
        self.url = url
        self._key, self._silence_s = key, silence_s
        self._open = _STRAIGHT.open if straight else urllib.request.urlopen

    def open(self, path: str, body: object = None, *, method: str | None = None) -> HTTPResponse:
        """The answer to a GET, or with a body a POST, or to another method; to be closed.

        Raises:
          MuxError: what the server says is wrong.
          ConfigError: there is none.
        """
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(f"{self.url}/{path}", data=data, headers=headers, method=method)
            return self._open(request, timeout=self._silence_s)
        except urllib.error.HTTPError as error:
            raise MuxError(_message(error.read(MOST_BYTES)) or f"{self.url}/{path}: {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise ConfigError(f"no server at {self.url}: {getattr(error, 'reason', error)}", field="url") from error
        except ValueError as error:  # such as a host that no resolver takes
            raise ConfigError(f"no server at {self.url}: {error}", field="url") from error

    def ask(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """The JSON of the answer.

        Raises:
          MuxError: as `open`, or it is no JSON.
        """
        with self.open(path, body, method=method) as response:
            try:
                return json.loads(response.read(MOST_BYTES))
            except BROKEN as error:
                raise MuxError(f"what {self.url}/{path} answers is no JSON") from error


def _message(body: bytes) -> str:
    """The message of an error's JSON, "" if it is none."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
