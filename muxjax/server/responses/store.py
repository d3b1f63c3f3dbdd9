"""Responses that clients may ask for again, or go on from: kept in memory, the latest, within a bound."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.strict_json import encode

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A response and what it came of, as JSON: objects of Python would take up to ten times as much.

    Args:
      owner: name of the tenant, who alone hears of it.
      encoded: the response, the input's items with ids, and the whole conversation in the form of a chat, the answer included,
        instructions not.
    """

    owner: str
    id: str
    status: str
    background: bool
    encoded: tuple[bytes, bytes, bytes]

    @classmethod
    def of(cls, owner: str, response: Json, items: bytes, messages: bytes) -> "Stored":
        """What is to be kept; items and messages are JSON already."""
        encoded = (encode(response).encode(), items, messages)
        return cls(owner=owner, id=response["id"], status=response["status"], background=response["background"], encoded=encoded)

    @property
    def size(self) -> int:
        """Bytes of it."""
        return sum(map(len, self.encoded))

    @property
    def response(self) -> Json:
        return json.loads(self.encoded[0])

    @property
    def items(self) -> list[Json]:
        return json.loads(self.encoded[1])

    @property
    def messages(self) -> list[Json]:
        return json.loads(self.encoded[2])


def listed(values: Sequence[Json]) -> bytes:
    """JSON of a list."""
    return encode(list(values)).encode()


class ResponseStore:
    """Keeps what fits; the oldest go first. May be used by several threads.

    Args:
      most_bytes: of the JSON of responses and their conversations; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Stored] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def keeps(self) -> bool:
        return self._most_bytes > 0

    def put(self, stored: Stored) -> None:
        """Keeps it in place of what is kept under its id; one that is larger than the bound is not kept."""
        with self._lock:
            self._drop(stored.id)
            if stored.size > self._most_bytes:
                return
            while self._bytes + stored.size > self._most_bytes:
                self._drop(next(iter(self._kept)))
            self._kept[stored.id] = stored
            self._bytes += stored.size

    def get(self, owner: str, response_id: str, *, param: str | None = None) -> Stored:
        """Raises RequestError: 404, nothing is kept of it, or it is somebody else's."""
        with self._lock:
            stored = self._kept.get(response_id)
        if stored is None or stored.owner != owner:
            raise RequestError(f"Response {response_id[:100]!r} is not kept here.", param=param, code="response_not_found", status=404)
        return stored

    def drop(self, owner: str, response_id: str) -> None:
        """Raises RequestError: as `get`."""
        self.get(owner, response_id)
        with self._lock:
            self._drop(response_id)

    def _drop(self, response_id: str) -> None:
        stored = self._kept.pop(response_id, None)
        self._bytes -= stored.size if stored else 0
