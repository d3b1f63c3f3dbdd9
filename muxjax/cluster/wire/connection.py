"""The worker's end of its connection to the front."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from muxjax.cluster.wire import messages
from muxjax.cluster.wire.frames import WireError, frame, received
from muxjax.cluster.wire.messages import FromFront, Message
from muxjax.errors import MuxError

SEND_S = 10
"""A front that takes nothing for so long is gone."""
_BUFFER_BYTES = 4 * 2**20


class Connection:
    """Messages to and from one front. Any thread may send, one receives."""

    def __init__(self, stream: socket.socket):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))  # of sends alone
        if stream.family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = stream
        self._sending = threading.Lock()  # a message goes out whole
        self._open = True

    def send(self, message: Message) -> None:
        """Sends a message; where the front is gone, it is lost."""
        data = frame(messages.encode(message))
        with self._sending:
            if not self._open:
                return
            try:
                self._stream.sendall(data)
            except OSError:
                self.close()

    def incoming(self) -> Iterator[FromFront]:
        """What the front sends, until it is gone.

        Raises:
          WireError: it makes no sense.
        """
        with contextlib.suppress(OSError):
            for data in received(self._stream):
                try:
                    message = messages.from_front(data)
                except (ValueError, MuxError) as error:
                    raise WireError(f"a message that makes no sense: {error}") from error
                yield message

    def close(self) -> None:
        """Ends it; whoever receives notices."""
        self._open = False
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
