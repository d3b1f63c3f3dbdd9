"""Options of a server of several units."""

from dataclasses import dataclass
from pathlib import Path

from muxjax.errors import require

SILENCE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Which units there are, and how their workers are kept; with none of the first two there is one unit.

    Args:
      placement: a file that `muxjax place` wrote; problem: a file that it reads, to be placed at the start, by `replan_s`, or
        by the devices that `ray` has lost or found.
      worker: one unit has a worker too, so that HTTP and text do not hold up its steps; false for the server's own process, None for a
        worker where there is a GPU.
      worker_dir: folder of the workers' sockets, by which a server finds workers that a server before it has left; None for one by port.
        Two servers need folders of their own: workers of other units in it are ended.
      ray: address of a Ray cluster whose nodes serve the units, HOST:PORT of its head or auto for the one of this host; None for none.
      ray_timeout_s: time in which Ray must have devices for a unit.
      replan_s: so often it is looked whether another placement would serve what comes better, by the problem; None for never.
      replan_apply: such a placement is then served; else it is only logged.
      worker_timeout_s: a worker that says nothing for so long is ended, and another one started.
    Raises:
      ConfigError: a value outside its range.
    """

    placement: Path | None = None
    problem: Path | None = None
    worker: bool | None = None
    worker_dir: Path | None = None
    worker_timeout_s: float = SILENCE_S
    ray: str | None = None
    ray_timeout_s: float = 60.0
    replan_s: float | None = None
    replan_apply: bool = False

    def __post_init__(self):
        require(self.worker is not False or self.is_one_unit, "worker", False, "left out where units of a placement are served")
        require(self.ray is None or not self.is_one_unit, "ray", self.ray, "left out where there is neither placement nor problem")
        require(self.ray is None or _is_address(self.ray), "ray", self.ray, "auto or HOST:PORT of a cluster's head")
        require(self.ray is None or self.worker_dir is None, "worker_dir", str(self.worker_dir), "left out with ray")
        require(0 <= self.ray_timeout_s < float("inf"), "ray_timeout_s", self.ray_timeout_s, "0 or more seconds")
        both = self.placement is not None and self.problem is not None
        again = self.replan_s is not None or self.ray is not None
        require(not both or again, "problem", self.problem, "left out where there is a placement, but for replan and ray")
        require(self.replan_s is None or self.problem is not None, "replan", self.replan_s, "left out where there is no problem")
        require(self.replan_s is None or 10 <= self.replan_s < float("inf"), "replan", self.replan_s, "10 or more seconds")
        require(not self.replan_apply or self.replan_s is not None, "replan_apply", True, "left out without replan")
        require(1 <= self.worker_timeout_s < float("inf"), "worker_timeout_s", self.worker_timeout_s, "1 or more seconds")

    @property
    def is_one_unit(self) -> bool:
        """No units are named."""
        return self.placement is None and self.problem is None


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return text == "auto" or (bool(host) and "/" not in host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 2**16)
