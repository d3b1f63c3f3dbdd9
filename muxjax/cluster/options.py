"""Options of a server of several units."""

from dataclasses import dataclass
from pathlib import Path

from muxjax.errors import require

SILENCE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Which units there are, and how their workers are kept; with none of the first two there is one unit, in the server's own process.

    Args:
      placement: a file that `muxjax place` wrote; problem: a file that it reads, to be placed at the start. Not both.
      worker_dir: folder of the workers' sockets, by which a server finds workers that a server before it has left; None for one by port.
      worker_timeout_s: a worker that says nothing for so long is ended, and another one started.
    Raises:
      ConfigError: a value outside its range.
    """

    placement: Path | None = None
    problem: Path | None = None
    worker_dir: Path | None = None
    worker_timeout_s: float = SILENCE_S

    def __post_init__(self):
        require(self.placement is None or self.problem is None, "problem", self.problem, "left out where there is a placement")
        require(1 <= self.worker_timeout_s < float("inf"), "worker_timeout_s", self.worker_timeout_s, "1 or more seconds")

    @property
    def is_one_unit(self) -> bool:
        """No units are named."""
        return self.placement is None and self.problem is None
