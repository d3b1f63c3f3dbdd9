"""A question about serving systems, as a value: who serves what, who asks when, and what counts as a good answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from muxjax.bench.targets import Targets
from muxjax.demo.run import SHIPPED
from muxjax.workload.arrivals import Arrivals, Poisson
from muxjax.workload.lengths import RequestLengths, fixed
from muxjax.workload.trace import Stream

STATIC = "static=scripts.baselines.static_cache"
STATIC_MPS = "static-mps=scripts.baselines.static_cache"
TRANSFORMERS = "transformers=scripts.baselines.transformers_batching"
"""PyTorch's stacks, which are modules of ours."""
TARGETS = Targets(ttft_s=1.0, tpot_s=0.05)
DEMO = sorted(path.name for path in SHIPPED.iterdir() if (path / "config.json").exists())
"""Models that come with the package, for twins."""
TWIN_RATE_RPS, TWIN_S = 8.0, 4.0
"""Requests a second of all models of a twin, and for how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An experiment.

    Args:
      name: of its folder in docs/results; title: what it asks.
      models: published shape by name, or a folder of the demo's for a twin.
      streams: who asks, at a scale of 1; duration_s: for how long; at_once: so many requests of all at the beginning, in place of that.
      backends: as of `muxjax bench compare`.
      scales: multiples of the rates, ascending; enough: a backend is asked no more than the first at which less than this share is good.
      cache: for all models together.
      about: what else a reader must know.
    """

    name: str
    title: str
    models: Mapping[str, str]
    streams: tuple[Stream, ...]
    backends: tuple[str, ...]
    duration_s: float = 20.0
    at_once: int | None = None
    scales: tuple[float, ...] = (1.0,)
    enough: float = 0.9
    cache: str = "32GiB"
    targets: Targets = TARGETS
    seeds: tuple[int, ...] = (1,)
    max_model_len: int = 2048
    max_num_seqs: int = 512
    dummy: bool = True
    dtype: str = "bfloat16"
    about: str = ""

    @property
    def rate_rps(self) -> float:
        """Of all models, at a scale of 1."""
        return sum(stream.arrivals.rate_rps for stream in self.streams)

    @property
    def twin(self) -> "Question":
        """The same at toy size, on any machine: the demo's models by turns, short requests, and few of them."""
        slower = TWIN_RATE_RPS / self.rate_rps
        lengths = RequestLengths(prompt=fixed(12), output=fixed(8))
        chosen = {name: str(SHIPPED / DEMO[i % len(DEMO)]) for i, name in enumerate(list(self.models)[: 2 * len(DEMO)])}
        streams = (replace(stream, lengths=lengths, arrivals=_slower(stream.arrivals, slower)) for stream in self.streams)
        return replace(
            self,
            models=chosen,
            streams=tuple(stream for stream in streams if stream.model in chosen),
            duration_s=TWIN_S,
            at_once=None if self.at_once is None else 16,
            scales=self.scales[:1],
            cache="32MiB",
            max_model_len=128,
            max_num_seqs=16,
            dummy=False,
            dtype="float32",
        )


def _slower(arrivals: Arrivals, factor: float) -> Arrivals:
    return Poisson(rate_rps=arrivals.rate_rps * factor)
