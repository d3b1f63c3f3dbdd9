"""Who may come in does, whoever else stands at the door."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from muxjax.cluster.wire.door import MOST_UNKNOWN, Door, Guest
from muxjax.cluster.wire.frames import TcpAddress, WireError, listen
from muxjax.cluster.wire.link import Link
from muxjax.cluster.wire.messages import Hello
from tests.cluster.kit import unit

KEY = b"the right key"
OPTIONS = unit("0", "a").options
SOON_S = 5.0
"""Less than a silent connection is waited for."""


class Opened(NamedTuple):
    door: Door
    port: int
    closed: threading.Event


@contextmanager
def opened() -> Iterator[Opened]:
    with listen(TcpAddress("127.0.0.1", 0, KEY)) as listener:
        closed = threading.Event()
        yield Opened(Door(listener, KEY, closed), listener.getsockname()[1], closed)


def knock(port: int, key: bytes) -> threading.Thread:
    """Has a front connect, in a thread of its own."""

    async def connect() -> None:
        link = await Link.to(TcpAddress("127.0.0.1", port, key), OPTIONS, lambda message: None, lambda: None)
        await asyncio.sleep(0.1)
        link.close()

    def run() -> None:
        with contextlib.suppress(OSError, WireError):
            asyncio.run(connect())

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def let_in(one: Opened, key: bytes, timeout_s: float = SOON_S) -> Guest | None:
    front = knock(one.port, key)
    guest = one.door.next_guest(timeout_s)
    if guest is not None:
        guest.stream.close()
    front.join()
    return guest


@pytest.mark.parametrize("silent", [1, 2 * MOST_UNKNOWN])
def test_who_says_nothing_keeps_nobody_out(silent):
    with opened() as one, contextlib.ExitStack() as strangers:
        streams = [strangers.enter_context(socket.create_connection(("127.0.0.1", one.port))) for _ in range(silent)]
        guest = let_in(one, KEY)
        assert guest is not None and isinstance(guest.said, Hello) and guest.said.options == OPTIONS
        for stream in streams[: max(0, silent + 1 - MOST_UNKNOWN)]:  # the first of too many are cut
            stream.settimeout(SOON_S)
            while stream.recv(100):
                pass


def test_who_has_not_the_key_does_not_come_in():
    with opened() as one:
        assert let_in(one, b"another key", timeout_s=0.5) is None
        assert let_in(one, KEY) is not None


def test_nobody_is_waited_for_for_ever():
    with opened() as one:
        assert one.door.next_guest(0.1) is None
        one.closed.set()
        assert one.door.next_guest(3600) is None
