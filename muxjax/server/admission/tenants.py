"""Tenants: who uses a server, with which keys, and within which limits."""

import hashlib
import re
from dataclasses import dataclass

from muxjax.errors import ConfigError, require

_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest(key: str) -> str:
    """A key as configurations hold it: its SHA-256 in hexadecimal digits, from which nobody learns a random key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def require_key(field: str, key: str) -> None:
    """Raises ConfigError: no header could hold the key as it is; it is not repeated."""
    if not key or not key.isprintable() or key != key.strip():
        raise ConfigError(f"{field} must be a key that is not empty, without line breaks and spaces around it", field=field)


def require_digests(field: str, keys: tuple[str, ...]) -> None:
    """Raises ConfigError: a key is not written as its digest, or is empty; it is not repeated, because it may be the key itself."""
    if not all(_DIGEST.fullmatch(key) for key in keys):
        raise ConfigError(f"{field} must be SHA-256 digests, such as `printf %s KEY | sha256sum` prints", field=field)
    if _OF_NOTHING in keys:
        raise ConfigError(f"{field} must be digests of keys, got that of an empty one", field=field)


_OF_NOTHING = digest("")
_UNNAMED = "key:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A user of the server, or several who share keys and with them limits.

    Args:
      name: to the scheduler and, if `metrics` is set, in metrics; "" for whoever has no name.
      api_keys: digests of the keys.
      requests_per_minute, tokens_per_minute: in the mean; as much as a minute's may come at once. None for no limit.
      tokens_per_day: budget of prompts and answers together, from midnight to midnight UTC; None for no limit.
      weight: share of a model under load, against the other tenants that want it.
      metrics: tokens and requests are counted under its name.
    Raises:
      ConfigError: a value outside its range.
    """

    name: str
    api_keys: tuple[str, ...] = ()
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    tokens_per_day: int | None = None
    weight: float = 1.0
    metrics: bool = False

    def __post_init__(self):
        require_digests("api_keys", self.api_keys)
        for field in ("requests_per_minute", "tokens_per_minute", "tokens_per_day"):
            limit = getattr(self, field)
            require(limit is None or 0 < limit < float("inf"), field, limit, "over 0 and finite")
        require(0 < self.weight < float("inf"), "weight", self.weight, "over 0 and finite")


ANYONE = Tenant(name="")
"""Whoever needs no key."""


def unnamed(key: str) -> Tenant:
    """Whoever has the key of that digest, which is no tenant's: a client of its own, who finds only its own prefixes in the cache."""
    return Tenant(name=_UNNAMED + key[:16], api_keys=(key,))


def is_unnamed(tenant: Tenant) -> bool:
    """Whether it is nobody that a configuration names."""
    return not tenant.name or tenant.name.startswith(_UNNAMED)
