"""Fairness by default: which requests are in one line, where no tenant's name says it.

Lines of a model take turns (`engine/model/waiting`) and share its queue, so a client that floods waits behind itself. Clients are dealt
to a bounded number of lines by a hash that nobody outside knows, so that nobody can fill the server's memory with names, nor choose
whom to meet.

Source: McKenney, Stochastic Fairness Queueing (1990).
"""

import hashlib
import ipaddress
import secrets

from muxjax.server.admission.tenants import Tenant, is_unnamed

FAIRNESS = ("client", "key", "address", "none")
LINES = 256
"""Lines of clients without a name, at most."""
_EVERYBODY = "client"
_IPV6_NETWORK = 64
"""Bits of an address of version 6 that name whoever has it; the others are free to choose."""


def line_of(tenant: Tenant, client: str) -> str:
    """Name of those whose work takes turns as one: a line of `Lines`, or else a tenant."""
    return client or tenant.name


class Lines:
    """Names of the lines of clients that are no tenants.

    Args:
      by: what tells clients apart, of FAIRNESS: their key where the server asks for one and their address elsewhere ("client"), one of
        these, or nothing ("none").
    """

    def __init__(self, by: str):
        self._by, self._secret = by, secrets.token_bytes(16)

    def of(self, tenant: Tenant, key: str | None, address: str | None) -> str:
        """Name of a client's line; "" for the tenant's, or for the one of whoever cannot be told apart.

        Args:
          key: the digest of a key that the server knows.
          address: of the connection's other end.
        """
        if not is_unnamed(tenant):
            return ""
        if key is not None and self._by in ("client", "key"):
            return self._dealt("key " + key)
        if address and self._by in ("client", "address"):
            return self._dealt("address " + _network(address))
        return _EVERYBODY if tenant.name else ""

    def _dealt(self, name: str) -> str:
        number = int.from_bytes(hashlib.blake2b(name.encode(), key=self._secret, digest_size=8).digest()) % LINES
        return f"client {number}"


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), _IPV6_NETWORK), strict=False))
    return str(ip)
