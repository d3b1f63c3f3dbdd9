"""What a good answer keeps to."""

from dataclasses import dataclass

from muxjax.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a good answer keeps to, seconds from the time at which its request was to be sent.

    Args:
      slo_scale: x what the request takes alone, of its whole latency; counts where no other target is given.
    Raises:
      ConfigError: one that is not over 0.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    slo_scale: float = 8.0

    def __post_init__(self):
        for field in ("ttft_s", "tpot_s", "e2e_s", "slo_scale"):
            value = getattr(self, field)
            require(value is None or 0 < value < float("inf"), field, value, "over 0 and finite")

    @property
    def absolute(self) -> dict[str, float]:
        """Those in seconds that are given."""
        every = {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2e": self.e2e_s}
        return {name: value for name, value in every.items() if value is not None}
