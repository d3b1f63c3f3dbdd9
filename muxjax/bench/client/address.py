"""Where a server is, and the key that it wants."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from muxjax.errors import ConfigError

KEY = "OPENAI_API_KEY"
"""Variable of the environment with the key."""
REACH_S = 10.0
"""In which a server must take a connection before anything is measured."""
_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server's API.

    Args:
      url: as given; host: its name for TLS and the header; prefix: of the path, such as "/v1".
      peer: what is connected to, the name or, once it was reached, its number.
    """

    url: str
    host: str
    port: int
    prefix: str
    tls: ssl.SSLContext | None
    peer: str

    async def connect(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Raises OSError: nobody listens, or nobody that is who the certificate must say."""
        name, loop = None if self.tls is None else self.host, asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, self.peer, self.port, ssl=self.tls, server_hostname=name)
        return transport

    def request(self, path: str, body: bytes, key: str = "") -> bytes:
        """A POST of JSON, after whose answer the connection ends.

        Args:
          path: below the prefix, such as "/completions".
        """
        default = self.port == (80 if self.tls is None else 443)
        host = f"[{self.host}]" if ":" in self.host else self.host  # IPv6
        head = [f"Host: {host}" if default else f"Host: {host}:{self.port}", "Connection: close"]
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}", *([f"Authorization: Bearer {key}"] if key else [])]
        return "\r\n".join([f"POST {self.prefix}{path} HTTP/1.1", *head, "", ""]).encode() + body


def address(url: str) -> Address:
    """The address in a URL; where it has no path, /v1 is meant.

    Raises:
      ConfigError: it is none.
    """
    parts = urlsplit(checked(url))
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    host = parts.hostname or ""
    port = parts.port or (80 if tls is None else 443)
    return Address(url=url, host=host, port=port, prefix=urlsplit(api_url(url)).path, tls=tls, peer=host)


async def reached(server: Address) -> Address:
    """The address by number, at which the server takes connections: a name that had to be looked up for each would cost time.

    Raises:
      ConfigError: nobody takes one.
    """
    try:
        async with asyncio.timeout(REACH_S):
            transport = await server.connect(asyncio.Protocol())
    except TimeoutError as error:
        raise ConfigError(f"no server at {server.url}: no connection within {REACH_S:g} s", field="base_url") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"no server at {server.url}: {error}", field="base_url") from error
    peer = transport.get_extra_info("peername")
    transport.abort()
    return replace(server, peer=peer[0])


def checked(url: str) -> str:
    """The URL of an API, which can be taken apart.

    Raises:
      ConfigError: it cannot, or begins otherwise.
    """
    what = f"got {url[:_MOST_SHOWN]!r}"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the address must begin with http:// or https://, {what}", field="url")
    try:
        parts = urlsplit(url)
        problem = "" if parts.hostname and parts.port != 0 else "it names no host and port"
    except ValueError as error:
        problem = str(error)
    if not re.fullmatch("[!-~]+", url):
        problem = "it has other characters than ASCII's, or spaces"
    if problem:
        raise ConfigError(f"the address must be such as http://127.0.0.1:8000/v1, {what}: {problem}", field="url")
    return url


def api_url(url: str) -> str:
    """The address of an API; where the URL has no path, /v1 is meant.

    Raises:
      ConfigError: it is none.
    """
    return url.rstrip("/") if urlsplit(checked(url)).path.rstrip("/") else f"{url.rstrip('/')}/v1"


def server_url(url: str) -> str:
    """The address of a server itself, of that of its API too.

    Raises:
      ConfigError: it is none.
    """
    return checked(url).rstrip("/").removesuffix("/v1")


def key_in(environment: Mapping[str, str], given: str | None = None) -> str:
    """The key that was given, or else that the environment names; "" for none.

    Raises:
      ConfigError: it could be no header's; the key itself is not told.
    """
    key, where = (environment.get(KEY, ""), f"in {KEY}") if given is None else (given, "that was given")
    if not re.fullmatch(r"[!-~]*", key):
        raise ConfigError(f"the key {where} must be printable ASCII without spaces", field="key")
    return key
