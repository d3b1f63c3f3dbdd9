"""Sockets that are bound before anything takes time: a port in use is found first, and nobody takes it while models load."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from muxjax.errors import ConfigError
from muxjax.server.config import HttpOptions

BACKLOG = 1024
"""Connections that wait for a place; the kernel may allow fewer (net.core.somaxconn)."""
_NOT_HERE = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Sockets of an endpoint, bound and not listening yet: until then clients are refused.

    Args:
      admin: those of administration's own port; none where there is no such port.
    """

    public: tuple[socket.socket, ...]
    admin: tuple[socket.socket, ...] = ()


@contextlib.contextmanager
def bound(http: HttpOptions) -> Iterator[Sockets]:
    """The endpoint's sockets, closed at the end.

    Raises:
      ConfigError: a host that is unknown or not this machine, or a port that is in use or not permitted.
    """
    with contextlib.ExitStack() as stack:
        public = _bind_all(http.host, http.port, "port")
        for one in public:
            stack.enter_context(one)
        admin = _bind_all(http.admin_host, http.admin_port, "admin_port") if http.admin_port is not None else ()
        for one in admin:
            stack.enter_context(one)
        yield Sockets(public=public, admin=admin)


def listen(one: socket.socket) -> None:
    """Takes clients from now on; what they leave behind does not keep the next server from the port."""
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.listen(BACKLOG)


def port_of(sockets: tuple[socket.socket, ...]) -> int:
    """The port that they all have."""
    return sockets[0].getsockname()[1]


def url(sockets: tuple[socket.socket, ...], host: str) -> str:
    """The address of a server on those sockets, under the name its host was given."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{sockets[0].getsockname()[1]}"


def _bind_all(host: str, port: int, field: str) -> tuple[socket.socket, ...]:
    """A socket for each address of the host that this machine has, all with one port."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in found:
            try:
                sockets.append(_bind(family, (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if missing and not sockets:
            raise missing
    except (OSError, ValueError) as error:
        for one in sockets:
            one.close()
        where = host if host.isprintable() and len(host) < 256 else repr(host[:50])
        raise ConfigError(f"cannot listen on {where} port {port}: {getattr(error, 'strerror', '') or error}", field=field) from error
    return tuple(sockets)


def _bind(family: int, address: tuple[Any, ...]) -> socket.socket:
    """A bound socket.

    With SO_REUSEADDR two servers that do not listen yet may have the same port, so the first try is without it. The second try is for
    connections of an earlier server that have not faded yet, which it gets over, and a server that is there, which it does not.
    """
    try:
        return _bound(family, address, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return _bound(family, address, reuse=True)


def _bound(family: int, address: tuple[Any, ...], *, reuse: bool) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except BaseException:
        one.close()
        raise
    return one
