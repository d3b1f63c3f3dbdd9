"""Rate limits of tenants: token buckets a minute, a budget a day. Kept in memory, so a restart forgets what was used."""

from dataclasses import dataclass

from muxjax.errors import RequestError
from muxjax.server.admission.tenants import Tenant

MINUTE_S, DAY_S = 60.0, 86400.0


@dataclass(slots=True)
class Bucket:
    """Fills at a steady rate up to a minute's worth. It may be overdrawn, and is closed until that is paid back.

    Args:
      per_minute: its rate and its size.
      at_s: when its level was right.
    """

    per_minute: float
    level: float
    at_s: float

    def wait_s(self, now_s: float, least: float) -> float:
        """Until its level is `least`, or it is full; 0 if it is."""
        self._fill(now_s)
        return max(0.0, min(least, self.per_minute) - self.level) * MINUTE_S / self.per_minute

    def take(self, now_s: float, amount: float) -> None:
        self._fill(now_s)
        self.level -= amount

    def _fill(self, now_s: float) -> None:
        elapsed_s = max(0.0, now_s - self.at_s)
        self.level, self.at_s = min(self.per_minute, self.level + elapsed_s * self.per_minute / MINUTE_S), now_s


class Allowance:
    """The rest of a tenant's limits. A request needs a whole one of its requests, and some of its tokens.

    Tokens are counted as they are computed, so what is running may overdraw them: by less than the running requests' tokens, and
    whoever has overdrawn waits until it is paid back. In the mean the limits hold.

    Args:
      now_s: Unix time, as in all methods; days are UTC's.
    """

    def __init__(self, tenant: Tenant, now_s: float):
        self._tenant = tenant
        self._requests = _bucket(tenant.requests_per_minute, now_s)
        self._tokens = _bucket(tenant.tokens_per_minute, now_s)
        self._day, self._spent_tokens = now_s // DAY_S, 0

    def check(self, now_s: float) -> None:
        """Raises RequestError: 429, nothing is left; it names the limit and when there will be more."""
        tenant = self._tenant
        if self._requests and (wait_s := self._requests.wait_s(now_s, 1.0)):
            raise _refusal(f"{tenant.requests_per_minute:g} requests per minute", wait_s)
        if self._tokens and (wait_s := self._tokens.wait_s(now_s, 1.0)):
            raise _refusal(f"{tenant.tokens_per_minute:g} tokens per minute", wait_s)
        self._turn_day(now_s)
        if tenant.tokens_per_day is not None and self._spent_tokens >= tenant.tokens_per_day:
            rest_s = (self._day + 1) * DAY_S - now_s
            raise _refusal(f"{tenant.tokens_per_day} tokens per day", rest_s, code="insufficient_quota")

    def take_request(self, now_s: float) -> None:
        if self._requests:
            self._requests.take(now_s, 1.0)

    def take_tokens(self, now_s: float, count: int) -> None:
        if self._tokens:
            self._tokens.take(now_s, count)
        self._turn_day(now_s)
        self._spent_tokens += count

    def _turn_day(self, now_s: float) -> None:
        if now_s // DAY_S > self._day:
            self._day, self._spent_tokens = now_s // DAY_S, 0


def _bucket(per_minute: float | None, now_s: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, per_minute, now_s)


def _refusal(limit: str, wait_s: float, *, code: str = "rate_limit_exceeded") -> RequestError:
    return RequestError(f"The limit of {limit} is reached.", code=code, status=429, retry_after_s=wait_s)
