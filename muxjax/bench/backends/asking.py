"""Servers of this host, asked over HTTP: straight, whatever proxy the environment names."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from muxjax.errors import ConfigError, first_line

_MOST_TOLD = 300
_NO_ANSWER = (OSError, ValueError, http.client.HTTPException)
"""Nobody there (urllib's errors are OSErrors), no JSON, half an answer."""
_STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str, *, within_s: float) -> bool:
    """Whether a GET is answered by a 200."""
    try:
        with _STRAIGHT.open(url, timeout=within_s) as answer:
            return answer.status == 200
    except _NO_ANSWER:
        return False


def answered(url: str, body: Mapping[str, Any], *, within_s: float) -> Any:
    """JSON that a POST of JSON is answered by.

    Raises:
      ConfigError: there is no such answer; what the server says in place of it is told.
    """
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with _STRAIGHT.open(request, timeout=within_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        told = error.read(_MOST_TOLD).decode(errors="replace").strip()
        raise ConfigError(f"{url} answers {error.code}: {told}", field="backend") from error
    except _NO_ANSWER as error:
        raise ConfigError(f"{url} does not answer: {first_line(error)}", field="backend") from error
