"""Frames on a stream: the length of a message in 4 bytes, then the message. Where a worker listens, and who may talk to it."""

import hashlib
import hmac
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muxjax.errors import ConfigError

MOST_FRAME_BYTES = 2**30
_LENGTH = struct.Struct("<I")
_CHUNK_BYTES = 2**18
_BACKLOG = 64
"""Connections that wait: asyncio takes one that finds no place among them for one that is made."""
NONCE_BYTES, PROOF_BYTES = 32, 32


class WireError(Exception):
    """The other side is gone, or is not who it should be."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in a folder that only its owner may enter."""

    path: Path


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port; whoever connects proves to have the key, which is never sent."""

    host: str
    port: int
    key: bytes


Address = UnixAddress | TcpAddress


def frame(message: bytes) -> bytes:
    """The bytes of a message on the stream."""
    return _LENGTH.pack(len(message)) + message


class Frames:
    """Cuts a stream into messages."""

    def __init__(self):
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Messages that these bytes complete.

        Raises:
          WireError: a longer one than there is.
        """
        self._bytes += data
        at = 0
        while len(self._bytes) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes, at)
            if length > MOST_FRAME_BYTES:
                raise WireError(f"a message of {length} bytes")
            end = at + _LENGTH.size + length
            if len(self._bytes) < end:
                break
            yield bytes(memoryview(self._bytes)[at + _LENGTH.size : end])
            at = end
        del self._bytes[:at]


def received(stream: socket.socket) -> Iterator[bytes]:
    """Messages as they come, until the other side is gone."""
    frames = Frames()
    while data := stream.recv(_CHUNK_BYTES):
        yield from frames.feed(data)


def listen(address: Address) -> socket.socket:
    """A listening socket; a path is taken over from a worker that is gone. Port 0 takes a free one.

    Raises:
      ConfigError: it cannot be had.
    """
    try:
        if isinstance(address, TcpAddress):
            return socket.create_server((address.host, address.port), backlog=_BACKLOG)
        address.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        address.path.unlink(missing_ok=True)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind(str(address.path))
        os.chmod(address.path, 0o600)
        one.listen(_BACKLOG)
        return one
    except OSError as error:
        raise ConfigError(f"cannot listen at {address}: {error.strerror or error}", field="address") from error


def proof(key: bytes, nonce: bytes) -> bytes:
    """What only a holder of the key can answer to a nonce."""
    return hmac.new(key, nonce, hashlib.sha256).digest()


def challenge(stream: socket.socket, key: bytes) -> None:
    """Has whoever connected prove that it has the key, and proves it in turn.

    Raises:
      WireError: it has not.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    stream.sendall(nonce)
    answer = _exactly(stream, PROOF_BYTES + NONCE_BYTES)
    if not hmac.compare_digest(answer[:PROOF_BYTES], proof(key, nonce)):
        raise WireError("a connection without the key")
    stream.sendall(proof(key, answer[PROOF_BYTES:]))


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise WireError("a connection that was cut")
        data += more
    return data
