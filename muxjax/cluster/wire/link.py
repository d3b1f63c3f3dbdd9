"""The front's end of its connection to a worker, on an event loop."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any

from muxjax import __version__
from muxjax.cluster.wire import messages
from muxjax.cluster.wire.frames import NONCE_BYTES, PROOF_BYTES, Address, Frames, TcpAddress, WireError, frame, proof
from muxjax.cluster.wire.messages import PROTOCOL, FromWorker, Hello, Message
from muxjax.engine.options import UnitOptions


class Link(asyncio.Protocol):
    """Messages to and from one worker, in the event loop's thread.

    Args:
      on_message: is told of each, in their order; on_lost: once, at the end, however it came.
    """

    def __init__(self, on_message: Callable[[FromWorker], object], on_lost: Callable[[], object]):
        self._on_message, self._on_lost = on_message, on_lost
        self._frames = Frames()
        self._transport: Any = None
        self._lost = False

    @classmethod
    async def to(cls, address: Address, options: UnitOptions, on_message: Callable, on_lost: Callable) -> "Link":
        """Connects and says which options the worker is to serve.

        Raises:
          OSError, WireError: nobody is there, or not who it should be.
        """
        loop = asyncio.get_running_loop()
        stream = await _connected(address)
        try:
            if isinstance(address, TcpAddress):
                await _prove(stream, address.key)
            _, link = await loop.create_connection(lambda: cls(on_message, on_lost), sock=stream)
        except BaseException:
            stream.close()
            raise
        link.send(Hello(PROTOCOL, str(__version__), options))
        return link

    def send(self, message: Message) -> None:
        """Sends a message; where the worker is gone, it is lost."""
        if not self._lost:
            self._transport.write(frame(messages.encode(message)))

    def close(self) -> None:
        """Ends it, without a word to `on_lost`."""
        self._on_lost = lambda: None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                if self._transport.is_closing():
                    return  # whoever closed it wants no more, of what had come already either
                self._on_message(messages.from_worker(message))
        except (WireError, ValueError):  # what it says makes no sense: it is as good as gone
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._on_lost()


async def _connected(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET if isinstance(address, TcpAddress) else socket.AF_UNIX
    stream = socket.socket(family, socket.SOCK_STREAM)
    stream.setblocking(False)
    try:
        await loop.sock_connect(stream, (address.host, address.port) if isinstance(address, TcpAddress) else str(address.path))
    except BaseException:
        stream.close()
        raise
    if family == socket.AF_INET:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return stream


async def _prove(stream: socket.socket, key: bytes) -> None:
    """The other side of `wire.challenge`."""
    loop = asyncio.get_running_loop()
    nonce = await _exactly(stream, NONCE_BYTES)
    own = secrets.token_bytes(NONCE_BYTES)
    await loop.sock_sendall(stream, proof(key, nonce) + own)
    if await _exactly(stream, PROOF_BYTES) != proof(key, own):
        raise WireError("a worker without the key")


async def _exactly(stream: socket.socket, count: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        more = await loop.sock_recv(stream, count - len(data))
        if not more:
            raise WireError("the worker has hung up")
        data += more
    return data
