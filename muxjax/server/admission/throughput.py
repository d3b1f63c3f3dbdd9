"""Throughput of late, and what follows of it: pure functions of rates, and the one record they are read from."""

import math
from collections import deque

_BUCKET_S = 1.0
_BUCKETS = 16
_FRESH_S = 60.0
_RETRY_S = (1.0, 60.0)


class Throughput:
    """Amounts over the seconds in which there was work for them, in short buckets of which the last are kept.

    It tells what there can be, not what there is: time without work does not count.
    """

    def __init__(self):
        self._buckets: deque[tuple[float, float, float]] = deque(maxlen=_BUCKETS)  # when it was full, seconds, amount
        self._seconds = self._amount = 0.0

    def add(self, now_s: float, seconds: float, amount: float) -> None:
        """So much was done at the end of so many further seconds of work."""
        if seconds and self._seconds >= _BUCKET_S:
            self._buckets.append((now_s, self._seconds, self._amount))
            self._seconds = self._amount = 0.0
        self._seconds += seconds
        self._amount += amount

    def best_per_s(self, now_s: float) -> float | None:
        """The rate of the last minute's fastest bucket; None before there is one."""
        return max((amount / seconds for at_s, seconds, amount in self._buckets if now_s - at_s <= _FRESH_S), default=None)

    def mean_per_s(self, now_s: float) -> float | None:
        """The mean rate of them all."""
        fresh = [(seconds, amount) for at_s, seconds, amount in self._buckets if now_s - at_s <= _FRESH_S]
        return sum(amount for _, amount in fresh) / sum(seconds for seconds, _ in fresh) if fresh else None


def first_token_s(ahead_tokens: float, own_tokens: float, best_per_s: float | None) -> float:
    """The soonest that a request's first token can come: what is ahead of it and its own prompt at the best rate there was.

    Args:
      best_per_s: prompt tokens a second; None where nothing is known, so that nothing is certain.
    """
    return (ahead_tokens + own_tokens) / best_per_s if best_per_s else 0.0 if best_per_s is None else math.inf


def retry_after_s(excess: float, per_s: float | None) -> float:
    """Seconds until `excess` will have gone at that rate, within reason."""
    low_s, high_s = _RETRY_S
    return low_s if per_s is None else high_s if per_s == 0 else min(high_s, max(low_s, excess / per_s))


def is_full(limit: int | None, queued: int, own: int, more: int, *, shared: bool) -> bool:
    """A queue takes no `more` of a tenant that has `own` of the `queued` in it.

    Where several tenants share it, each may have as many as are left free. So a flood of one stops at half of the queue, floods of two
    at a third each as they come and go, and there is room for whoever comes next.

    Source: Choudhury and Hahne, Dynamic queue length thresholds for shared-memory packet switches (1998), with alpha = 1.
    """
    if limit is None:
        return False
    return queued + more > limit or (shared and own > 0 and own + more > limit - queued)
