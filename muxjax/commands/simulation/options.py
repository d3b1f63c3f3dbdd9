"""Options of `muxjax simulate`; apart from the command, whose imports take longer."""

from dataclasses import dataclass
from pathlib import Path

from muxjax.errors import require
from muxjax.scheduler.policies import by_name

FORMATS: tuple[str, ...] = ("muxjax", "azure", "burst-gpt", "mooncake")
"""Formats of traces in files, our own first."""
MOST_S, MOST_SCALE, MOST_PROCESSES, MOST_LANES = 1e9, 1e6, 1024, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """Load, policy and length of a simulation, and the files it writes.

    Args:
      trace: a file of requests, in that format; None for what comes at random in duration_s: of the preset `workload`, or, if that is
        None too, of the problem's rates.
      rename: models of the trace or preset, as OLD=NEW.
      rate_scale: of the load; drain_s: after it, in which unfinished requests may still end.
      lanes: of each device, whose steps run beside each other; with one, all models take turns.
      max_model_len: to which requests are cut.
      costs: a cost table; None for those that come with the package.
      goodput: share of requests within slo_scale times what they take alone, of which the highest rate is searched; None for no search.
      processes: None for one a processor.
    Raises:
      ConfigError: a value outside its range.
    """

    trace: Path | None = None
    format: str = "muxjax"
    workload: str | None = None
    rename: tuple[str, ...] = ()
    duration_s: float = 60.0
    drain_s: float = 60.0
    rate_scale: float = 1.0
    seed: int = 0
    policy: str = "adbs"
    lanes: int = 1
    max_model_len: int = 8192
    goodput: float | None = None
    slo_scale: float = 8.0
    processes: int | None = None
    costs: Path | None = None
    json: Path | None = None
    plot: Path | None = None

    def __post_init__(self):
        require(0 < self.duration_s <= MOST_S, "duration_s", self.duration_s, f"over 0, to {MOST_S:g}")
        require(0 <= self.drain_s <= MOST_S, "drain_s", self.drain_s, f"0 to {MOST_S:g}")
        for field in ("rate_scale", "slo_scale"):
            require(
                1 / MOST_SCALE <= getattr(self, field) <= MOST_SCALE, field, getattr(self, field), f"{1 / MOST_SCALE:g} to {MOST_SCALE:g}"
            )
        require(self.format in FORMATS, "format", self.format, "one of " + ", ".join(FORMATS))
        require(self.trace is not None or self.format == FORMATS[0], "format", self.format, "left out where no trace is given")
        require(1 <= self.lanes <= MOST_LANES, "lanes", self.lanes, f"1 to {MOST_LANES}")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(2 <= self.max_model_len <= 2**20, "max_model_len", self.max_model_len, f"2 to {2**20}")
        require(self.goodput is None or 0 < self.goodput <= 1, "goodput", self.goodput, "over 0, to 1")
        require(self.processes is None or 1 <= self.processes <= MOST_PROCESSES, "processes", self.processes, f"1 to {MOST_PROCESSES}")
        require(self.trace is None or self.workload is None, "workload", self.workload, "left out where a trace is given")
        by_name(self.policy)
        for field in ("json", "plot"):
            path = getattr(self, field)
            require(path is None or path.parent.is_dir(), field, str(path), "in a folder that exists")
