"""The record of a request that has ended: its times, tokens and ids."""

from dataclasses import dataclass

from muxjax.types import Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """A request that has ended; times are `time.monotonic`'s.

    Args:
      http_id: id of the HTTP request it came with, "" for a script's.
      traceparent: W3C's header of that request, "" where there was none.
      started_s: begin of the first job that computed of its prompt; None if there was none, as for first_s, its first token.
      tokens: number of those generated.
    """

    id: str
    http_id: str
    traceparent: str
    model: str
    arrival_s: float
    started_s: float | None
    first_s: float | None
    last_s: float | None
    end_s: float
    prompt_tokens: int
    tokens: int
    finish: Finish

    @property
    def ttft_s(self) -> float | None:
        """From arrival to first token."""
        return None if self.first_s is None else self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time between tokens."""
        if self.first_s is None or self.last_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)

    def spans(self) -> list[tuple[str, float, float]]:
        """Name, begin and end of what it went through: queued, prefill, decode."""
        begins = [("queued", self.arrival_s), ("prefill", self.started_s), ("decode", self.first_s)]
        phases = [(name, at_s) for name, at_s in begins if at_s is not None]
        ends = [at_s for _, at_s in phases[1:]] + [self.end_s]
        return [(name, begin_s, max(begin_s, end_s)) for (name, begin_s), end_s in zip(phases, ends, strict=True)]
