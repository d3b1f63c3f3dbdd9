"""A unit under a load, in virtual time: the real unit, loop and policy, with costs in place of a device."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from muxjax.buckets import Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.engine.job_records import OnJob
from muxjax.engine.loop import replay
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import UnitOptions
from muxjax.engine.stats import UnitStats
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec
from muxjax.scheduler.view import Policy
from muxjax.simulate.executor import HOST_S, PaddedModel, SimulatedClock, SimulatedExecutor, step_costs
from muxjax.simulate.sharing import Sharing
from muxjax.types import Request, Sampling
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import RequestLengths
from muxjax.workload.metrics import Served
from muxjax.workload.trace import Arrival, Stream, capped, generate

ENGINE: Mapping[str, Any] = {field.name: field.default for field in fields(UnitOptions)}
"""What the engine does unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A model on its mesh, the requests a second that are expected for it, its share under load, and its targets as of `ModelConfig`."""

    spec: ModelSpec
    mesh: MeshSpec
    rate_rps: float
    weight: float = 1.0
    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A simulated unit.

    Args:
      hosted: by the model's name.
      cache_bytes: of the arena on each device.
      slots: most sequences of a model at a time.
      max_tokens: of a sequence, to which requests are cut, or to what the model was made for if that is less.
      token_budget: of the chunks of one job; prefill_rows: most of them.
      lanes: of the device, which the models share out in turn.
      host_s: of the host for a step.
      prefix_caching: as of `Unit`, for traces that tell which prompts begin alike; the others' all differ, and nothing is kept of them.
      measured: seconds of steps, the roofline's if None.
    """

    hosted: Mapping[str, Hosted]
    cache_bytes: int
    measured: CostModel | None = None
    slots: int = 256
    max_tokens: int = 2048
    token_budget: int = ENGINE["max_num_batched_tokens"]
    prefill_rows: int = ENGINE["max_num_prefill_seqs"]
    look_ahead: int = ENGINE["look_ahead"]
    lanes: int = 1
    host_s: float = HOST_S
    prefix_caching: bool = True

    def unit(self, *, prefix_caching: bool = False) -> Unit:
        """The unit before its first request; its quotas follow the rates."""
        layouts = self._layouts
        total_blocks = self.cache_bytes // next(iter(layouts.values())).block_bytes
        configs = [
            ModelConfig(
                name=name,
                layout=layout,
                slots=self.slots,
                max_tokens=self._context(name),
                rate=self.hosted[name].rate_rps,
                weight=self.hosted[name].weight,
                ttft_s=self.hosted[name].ttft_s,
                tpot_s=self.hosted[name].tpot_s,
                step_sizes=self._buckets(name, layout).tokens,
                token_cost=self.hosted[name].spec.active_params,
                lane=i % self.lanes,
            )
            for i, (name, layout) in enumerate(layouts.items())
        ]
        return Unit(
            configs,
            total_blocks=total_blocks,
            token_budget=self.token_budget,
            max_rows=self.prefill_rows,
            look_ahead=self.look_ahead,
            every_token=False,
            prefix_caching=prefix_caching,
        )

    def serve(
        self,
        arrivals: Sequence[Arrival],
        policy: Policy,
        sharing: Sharing,
        until_s: float,
        *,
        on_end: Callable[[], object] = lambda: None,
        on_job: OnJob | None = None,
    ) -> "Outcome":
        """Serves requests, cut to their contexts, until that time; what is unfinished then does not count.

        A request that could never be served counts as one that was not.

        Args:
          on_end: called for every request that has ended in time.
          on_job: told of each job that ends.
        """
        trace, clock = self.cut(arrivals), SimulatedClock()
        unit = self.unit(prefix_caching=self.prefix_caching and any(arrival.prefix_tokens for arrival in trace))
        padded = self._padded
        costs = step_costs({name: (one.spec, one.mesh) for name, one in self.hosted.items()}, self.measured, padded)
        executor = SimulatedExecutor(costs, clock, sharing, host_s=self.host_s)
        first_s, end_s, cache = {}, {}, _CacheMeter()
        if on_job:
            unit.watch(on_job)
        for outputs in replay(unit, policy, executor, clock, _admitted(unit, trace)):
            for request_id, _, finish, at_s, *_ in outputs:
                if at_s <= until_s:
                    first_s.setdefault(request_id, at_s)
                    if finish:
                        end_s[request_id] = at_s
                        on_end()
            if clock.now_s() > until_s:
                break
            cache.read(unit.owned_frac, clock.now_s())
        demanded = Counter(arrival.model for arrival in trace)
        return Outcome(
            demanded={name: demanded[name] for name in self.hosted},
            served=[_served(trace[int(request_id)], first_s[request_id], at_s) for request_id, at_s in end_s.items()],
            stats=unit.stats(),
            padding_frac=sum(one.padding for one in padded.values()) / max(1, sum(one.computed for one in padded.values())),
            shortened=sum(whole != cut for whole, cut in zip(arrivals, trace, strict=True)),
            cache_mean_frac=cache.mean_frac,
            cache_peak_frac=cache.peak_frac,
        )

    def cut(self, arrivals: Iterable[Arrival]) -> list[Arrival]:
        """The requests as this machine takes them."""
        return [one for arrival in arrivals for one in capped([arrival], self._context(arrival.model))]

    @property
    def _layouts(self) -> dict[str, CacheLayout]:
        return {name: CacheLayout.of(one.spec.share(one.mesh.tp), element_bytes=one.mesh.bytes_per_kv) for name, one in self.hosted.items()}

    @property
    def _padded(self) -> dict[str, PaddedModel]:
        """The sizes of steps that a GPU has."""
        return {name: PaddedModel(self._buckets(name, layout), layout) for name, layout in self._layouts.items()}

    def _buckets(self, model: str, layout: CacheLayout) -> Buckets:
        return Buckets.of(
            layout,
            slots=self.slots,
            max_tokens=self._context(model),
            token_budget=self.token_budget,
            prefill_rows=self.prefill_rows,
            ragged=True,
        )

    def _context(self, model: str) -> int:
        return min(self.max_tokens, self.hosted[model].spec.max_len)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A model, and the requests that come for it."""

    spec: ModelSpec
    rate_rps: float
    lengths: RequestLengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A unit whose models are all on one mesh, and what it has to serve for duration_s.

    Args:
      loads: by the model's name.
      cache_bytes: of the arena on each device of the mesh.
    """

    loads: Mapping[str, Load]
    mesh: MeshSpec
    cache_bytes: int
    duration_s: float

    @property
    def rates(self) -> dict[str, float]:
        return {name: load.rate_rps for name, load in self.loads.items()}

    @property
    def machine(self) -> Machine:
        hosted = {name: Hosted(spec=load.spec, mesh=self.mesh, rate_rps=load.rate_rps) for name, load in self.loads.items()}
        return Machine(hosted=hosted, cache_bytes=self.cache_bytes)

    def trace(self, seed: int) -> list[Arrival]:
        """Requests in order of arrival; same seed, same trace."""
        streams = [Stream(model=name, arrivals=Poisson(rate_rps=load.rate_rps), lengths=load.lengths) for name, load in self.loads.items()]
        return generate(streams, self.duration_s, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of a scenario at the end of its duration.

    Args:
      demanded: requests that arrived, by model; served: those that ended.
      stats: of the unit at the end.
      shortened: requests that were cut to their models' contexts.
      padding_frac: of the tokens that were computed.
      cache_mean_frac, cache_peak_frac: of the head blocks, that were owned over time.
    """

    demanded: Mapping[str, int]
    served: Sequence[Served]
    stats: UnitStats
    shortened: int
    cache_mean_frac: float
    cache_peak_frac: float
    padding_frac: float

    @property
    def shares(self) -> dict[str, float]:
        """Served/demanded of each model."""
        ended = [one.model for one in self.served]
        return {model: ended.count(model) / max(1, count) for model, count in self.demanded.items()}


def simulate(scenario: Scenario, policy: Policy, sharing: Sharing, seed: int) -> Outcome:
    """Serves the scenario's trace until its duration is over."""
    return scenario.machine.serve(scenario.trace(seed), policy, sharing, scenario.duration_s)


def _admitted(unit: Unit, trace: Sequence[Arrival]) -> Iterator[Request]:
    """Requests named by their place in the trace, so that ids and ages have one order; less those that the unit would refuse."""
    groups: dict[str | None, int] = {}
    for i, arrival in enumerate(trace):
        group = groups.setdefault(arrival.prefix_group, len(groups))
        request = Request(
            id=f"{i:08}",
            model=arrival.model,
            prompt=_prompt(arrival, own=2 * i + 1, shared=2 * group + 2),
            sampling=Sampling(temperature=0.0, max_tokens=arrival.output_tokens),
            arrival_s=arrival.time_s,
        )
        with suppress(RequestError):
            unit.checker.check(request)
            yield request


def _prompt(arrival: Arrival, *, own: int, shared: int) -> tuple[int, ...]:
    """One token again and again where prompts of a group are alike, another one behind that."""
    return (shared,) * arrival.prefix_tokens + (own,) * (arrival.prompt_tokens - arrival.prefix_tokens)


class _CacheMeter:
    """Use of a cache over time, each reading for the time before it."""

    def __init__(self):
        self.peak_frac = 0.0
        self._sum_s = self._at_s = 0.0

    @property
    def mean_frac(self) -> float:
        return self._sum_s / self._at_s if self._at_s else 0.0

    def read(self, owned_frac: float, at_s: float) -> None:
        self.peak_frac = max(self.peak_frac, owned_frac)
        self._sum_s += owned_frac * (at_s - self._at_s)
        self._at_s = at_s


def _served(arrival: Arrival, first_s: float, end_s: float) -> Served:
    return Served(
        model=arrival.model,
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=arrival.output_tokens,
        arrival_s=arrival.time_s,
        first_s=first_s,
        end_s=end_s,
    )
