"""A unit under a load, in virtual time: the real unit, loop and policy, with costs in place of a device."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muxjax.cache.layout import CacheLayout
from muxjax.engine.loop import replay
from muxjax.engine.resident import Member
from muxjax.engine.sim import Sharing, SimulatedClock, SimulatedExecutor, roofline
from muxjax.engine.stats import UnitStats
from muxjax.engine.unit import Unit
from muxjax.placement.cost import ELEMENT_BYTES, MeshSpec, share
from muxjax.scheduler import quota
from muxjax.scheduler.view import Policy
from muxjax.types import ModelSpec, Output, Request, Sampling
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import RequestLengths
from muxjax.workload.metrics import Served
from muxjax.workload.trace import Arrival, Stream, capped, generate


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A model on its mesh, and the requests a second that are expected for it."""

    spec: ModelSpec
    mesh: MeshSpec
    rate_rps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A simulated unit.

    Args:
      hosted: by the model's name.
      cache_bytes: of the arena on each device.
      slots: most sequences of a model at a time; max_tokens: of a sequence, to which requests are cut.
      token_budget: of the chunks of one job.
    """

    hosted: Mapping[str, Hosted]
    cache_bytes: int
    slots: int = 256
    max_tokens: int = 2048
    token_budget: int = 2048
    look_ahead: int = 2

    def unit(self) -> Unit:
        """The unit before its first request; its quotas follow the rates."""
        layouts = {name: CacheLayout.of(share(one.spec, one.mesh.tp), element_bytes=ELEMENT_BYTES) for name, one in self.hosted.items()}
        total_blocks = self.cache_bytes // next(iter(layouts.values())).block_bytes
        floors = quota.floors(self.hosted, total_blocks)
        blocks_per_token = {name: layout.column_blocks / layout.tokens_per_block for name, layout in layouts.items()}
        rates = {name: one.rate_rps for name, one in self.hosted.items()}
        quotas = quota.initial(rates, blocks_per_token, total_blocks, floors)
        members = [
            Member(
                name=name,
                layout=layout,
                slots=self.slots,
                max_tokens=self.max_tokens,
                quota_blocks=quotas[name],
                floor_blocks=floors[name],
            )
            for name, layout in layouts.items()
        ]
        return Unit(members, total_blocks=total_blocks, token_budget=self.token_budget, look_ahead=self.look_ahead)

    def serve(self, arrivals: Sequence[Arrival], policy: Policy, sharing: Sharing, until_s: float) -> "Outcome":
        """Serves requests, cut to max_tokens, until that time; what is unfinished then does not count."""
        trace, unit, clock = capped(arrivals, self.max_tokens), self.unit(), SimulatedClock()
        executor = SimulatedExecutor(roofline({name: (one.spec, one.mesh) for name, one in self.hosted.items()}), clock, sharing)
        outputs: list[Output] = []
        for batch in replay(unit, policy, executor, clock, [_request(i, arrival) for i, arrival in enumerate(trace)]):
            outputs += [output for output in batch if output.at_s <= until_s]
            if clock.now_s() > until_s:
                break
        demanded = Counter(arrival.model for arrival in trace)
        return Outcome(demanded={name: demanded[name] for name in self.hosted}, served=_served(trace, outputs), stats=unit.stats())


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
    """What came of a scenario by the end of its duration.

    Args:
      demanded: requests that arrived, by model; served: those that ended.
      stats: of the unit at the end.
    """

    demanded: Mapping[str, int]
    served: Sequence[Served]
    stats: UnitStats

    @property
    def shares(self) -> dict[str, float]:
        """Served/demanded of each model."""
        ended = [one.model for one in self.served]
        return {model: ended.count(model) / max(1, count) for model, count in self.demanded.items()}


def simulate(scenario: Scenario, policy: Policy, sharing: Sharing, seed: int) -> Outcome:
    """Serves the scenario's trace until its duration is over."""
    return scenario.machine.serve(scenario.trace(seed), policy, sharing, scenario.duration_s)


def _request(index: int, arrival: Arrival) -> Request:
    sampling = Sampling(temperature=0.0, max_tokens=arrival.output_tokens)
    prompt = (1,) * arrival.prompt_tokens
    return Request(id=f"{index:08}", model=arrival.model, prompt=prompt, sampling=sampling, arrival_s=arrival.time_s)


def _served(trace: Sequence[Arrival], outputs: Sequence[Output]) -> list[Served]:
    first_s: dict[str, float] = {}
    served = []
    for output in outputs:
        first_s.setdefault(output.request_id, output.at_s)
        if output.finish:
            arrival = trace[int(output.request_id)]
            served.append(
                Served(
                    model=arrival.model,
                    prompt_tokens=arrival.prompt_tokens,
                    output_tokens=arrival.output_tokens,
                    arrival_s=arrival.time_s,
                    first_s=first_s[output.request_id],
                    end_s=output.at_s,
                )
            )
    return served
