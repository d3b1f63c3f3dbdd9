"""Algorithm 1: LLMs by computation demand, each to the mesh where it adds most, for each way to cut the cluster; then a local search.

Source: MuxServe (arXiv 2404.02015), algorithm 1. Ours besides: replicas, degrees below the mesh's, and the climbs at the end.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from muxjax.cost.roofline import weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import Mesh, MeshGroup, all_groups, as_group, few_groups, neighbours
from muxjax.placement.moves import Moves
from muxjax.placement.objective import Objective, UnitContents
from muxjax.placement.problem import Placement, Problem
from muxjax.placement.search import EQUAL, Move, climb, insert
from muxjax.placement.state import State

COARSE = 32
"""A further look at groups ends when they differ by less than one part in so many of the devices."""
LEAST_CLIMBS, CLIMBS_A_FINALIST = 2, 6
"""On a larger cluster, quick climbs, and how many of them there are for each thorough one."""
LOOKS_AN_ESTIMATE = 20
"""Other states that a search looks at, at most, for each unit that it may estimate: most are of units that were estimated before."""
LOOKS_EACH, ESTIMATES_EACH = 20, 50
"""Other states that a climb looks at, and units that a search estimates, for each LLM."""
LOOK_SHARE = 0.3
"""Share of the estimates after which no further groups are looked at."""
QUICK_SHARE = 0.5
"""Share of the estimates after which quick climbs end, where thorough ones follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried.

    Args:
      groups: most mesh groups that are all searched, those that leave devices idle counted, as 8 devices have: there, a further device
        never lowers the result.
      cuts: of a cluster with more of them, those of the first look, which is coarse and refined around the best.
      breadth: then, quick climbs times the square of the LLMs, which is what one costs; but LEAST_CLIMBS at least, unless it is 0.
      looks: other states that a climb looks at, at least, and LOOKS_EACH for each LLM.
      whole: only ways to fill are gone on with under which everything placed is served.
      parts: most replicas of an LLM; as many as its rate needs or meshes can take if None.
      estimates: most units that are estimated, besides ESTIMATES_EACH for each LLM; there are at most LOOKS_AN_ESTIMATE looks for each.
    """

    groups: int = 40
    cuts: int = 16
    breadth: int = 1200
    looks: int = 400
    whole: bool = False
    parts: int | None = None
    estimates: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The best state that a search found, and what that took.

    Args:
      worth: by the objective; groups, units: that were tried and estimated.
      complete: whether the search ended by itself, and not for the estimates or because it was told to.
    """

    state: State
    worth: float
    groups: int
    units: int
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementResult(Searched):
    """A placement, and what it took to find it.

    Args:
      growth: all rates may grow by this factor, at least, and still be served; 1 where nobody asked, or not all is served.
    """

    placement: Placement
    growth: float = 1.0


Order = tuple[tuple[str, int], ...]
"""LLMs in an order, and replicas of each."""
GoOn = Callable[[int, float], bool]
"""Whether a search may go on, which has estimated so many units more than when it last asked, and has found a placement that is worth
so much of one that serves everything, 0 for none."""


def place(
    problem: Problem,
    objective: Objective,
    candidates: Candidates,
    effort: Effort | None = None,
    go_on: GoOn = lambda units, worth: True,
) -> PlacementResult:
    """The best placement found; for the arguments and errors, see `search`."""
    return placed(search(problem, objective, candidates, effort, go_on), objective)


def placed(searched: Searched, objective: Objective, growth: float = 1.0) -> PlacementResult:
    """The state laid out, with the SM shares that its LLMs need."""
    known = {field.name: getattr(searched, field.name) for field in fields(Searched)}
    return PlacementResult(placement=objective.placement(searched.state), growth=growth, **known)


def search(
    problem: Problem,
    objective: Objective,
    candidates: Candidates,
    effort: Effort | None = None,
    go_on: GoOn = lambda units, worth: True,
) -> Searched:
    """The best state found.

    Args:
      go_on: is asked at every look, and once it says no the search ends, in failure if no placement was found yet.
    Raises:
      ConfigError: an LLM, or all of them together, do not fit, or no way was found in time.
    """
    run = _Run(problem, objective, candidates, effort or Effort(), go_on)
    if run.fits:
        run.search()
    if run.best is None:
        raise ConfigError(_does_not_fit(problem, run), field="models")
    return Searched(
        state=run.best,
        worth=run.best.total(objective),
        groups=len(run.looked_at),
        units=objective.estimates,
        complete=run.complete,
    )


class _Run:
    """One search: which groups were looked at, and the best state that was reached. Of equals, what was found first stays."""

    def __init__(self, problem: Problem, objective: Objective, candidates: Candidates, effort: Effort, go_on: GoOn):
        self.cluster = problem.cluster
        self.models = tuple(demand.name for demand in problem.demands)
        self.objective, self.candidates, self.effort = objective, candidates, effort
        self.moves = Moves(cluster=problem.cluster, objective=objective, candidates=candidates, most_parts=effort.parts)
        self.weights = {demand.name: weight_bytes(demand.spec, problem.mesh(demand)) for demand in problem.demands}
        self.device_bytes = memory_bytes(problem)
        self.most_estimates = effort.estimates + ESTIMATES_EACH * len(self.models)
        self.most_look_estimates = LOOK_SHARE * self.most_estimates
        self.looked_at: dict[MeshGroup, State | None] = {}
        self.best: State | None = None
        self.best_worth = 0.0
        self.spent, self.complete = False, True
        self._go_on, self._looks, self._told = go_on, 0, 0

    @property
    def fits(self) -> bool:
        """Whether the cluster's memory holds all weights once."""
        return self._hold(dict.fromkeys(self.models, 1))

    @property
    def done(self) -> bool:
        """Whether no placement could serve more, or nothing more may be tried."""
        return self.spent or self.objective.serves_all(self.best_worth)

    def go_on(self) -> bool:
        """Whether another state may be looked at."""
        self._looks += 1
        units, self._told = self.objective.estimates - self._told, self.objective.estimates
        most = self.most_estimates
        if (
            self._told >= most
            or self._looks >= LOOKS_AN_ESTIMATE * most
            or not self._go_on(units, self.best_worth / self.objective.most_worth)
        ):
            self.spent, self.complete = True, False
        return not self.spent

    def search(self) -> None:
        """Quick climbs from every start of the groups, all or the best; then thorough ones from where they led, all or the best."""
        quick, slow = self.moves.quick(), self.moves.slow()
        groups = tuple(itertools.islice(all_groups(self.cluster), self.effort.groups + 1))
        if len(groups) <= self.effort.groups:
            self._look(groups)
            starts = self._by_rank(self._every_start(groups))
            self._climb(self._by_rank(self._climb(starts, quick, share=QUICK_SHARE)), quick + slow)
            return
        self._look_coarsely()
        if not self.done and self.effort.breadth:
            climbs = max(LEAST_CLIMBS, self.effort.breadth // len(self.models) ** 2)
            starts = self._every_start(map(group_of, self._by_rank(filter(None, self.looked_at.values()))))
            reached = self._by_rank(self._climb(itertools.islice(starts, climbs), quick))
            self._climb(reached[: math.ceil(climbs / CLIMBS_A_FINALIST)], quick + slow + self.moves.recutting())

    def _look_coarsely(self) -> None:
        """At each group of a first grain, then at those between the best ones, each with its first start."""
        groups, grain = few_groups(self.cluster, self.effort.cuts)
        self._look(groups)
        while grain > max(1, self.cluster.devices // COARSE) and self.best is not None:
            before = self.best
            self._look(neighbours(group_of(self.best), self.cluster, grain))
            if self.best is before:
                grain //= 2

    def _look(self, groups: Iterable[MeshGroup]) -> None:
        """At the first start of each."""
        for group in groups:
            if self.done or (self.best and self.objective.estimates >= self.most_look_estimates):
                return
            if group not in self.looked_at:
                self.looked_at[group] = next(self._starts(group), None)
                self._keep(self.looked_at[group])

    def _climb(self, starts: Iterable[State], moves: list[Move], share: float = 1.0) -> list[State]:
        """States reached from each start, each once; no further ones when that share of all estimates has been made."""
        looks = max(self.effort.looks, LOOKS_EACH * len(self.models))
        reached: dict[State, State] = {}
        for start in starts:
            if self.done:
                break
            if self.objective.estimates >= share * self.most_estimates:
                self.complete = False
                break
            if start not in reached:
                reached[start] = climb(start, moves, self.objective, looks=looks, go_on=self.go_on)
                self._keep(reached[start])
        return list(dict.fromkeys(reached.values()))

    def _by_rank(self, states: Iterable[State]) -> list[State]:
        """The best first."""
        return sorted(states, key=lambda state: (-state.total(self.objective), state.key))

    def _every_start(self, groups: Iterable[MeshGroup]) -> Iterator[State]:
        """Starts of all groups, one after the other."""
        for group in groups:
            self.looked_at.setdefault(group, None)
            yield from self._starts(group)

    def _keep(self, state: State | None) -> None:
        """As the best, if it is."""
        if state and (self.best is None or state.total(self.objective) > self.best_worth * (1 + EQUAL)):
            self.best, self.best_worth = state, state.total(self.objective)

    def _hold(self, parts: Mapping[str, int]) -> bool:
        """Whether the cluster's memory holds the weights of so many replicas."""
        return sum(count * self.weights[model] for model, count in parts.items()) <= self.device_bytes

    def _starts(self, group: MeshGroup) -> Iterator[State]:
        """The best first of those with as many replicas as the rates need, or fewer; those like it; then one each, or twice the need."""
        meshes = Counter(group)
        most = {model: min(rooms(model, meshes, self.candidates), self.effort.parts or len(group)) for model in self.models}
        if not all(most.values()):
            return
        needed = {model: replicas(model, meshes, self.objective, self.candidates) for model in self.models}
        tried: set[Order] = set()

        def filled(wanted: Mapping[str, int]) -> Iterator[State]:
            return self._filled(group, {model: min(wanted[model], most[model]) for model in self.models}, tried)

        starts = [(start, others) for others in map(filled, (needed, *self._fewer(meshes))) if (start := next(others, None)) is not None]
        for start, others in sorted(starts, key=lambda pair: -pair[0].total(self.objective)):
            yield start
            yield from others
        yield from filled(dict.fromkeys(self.models, 1))
        yield from filled({model: 2 * needed[model] for model in self.models})

    def _filled(self, group: MeshGroup, parts: Mapping[str, int], tried: set["Order"]) -> Iterator[State]:
        """With so many replicas, in several orders, the most demanding LLM first; but not what was tried, which this adds to."""
        size = {model: self.objective.demands[model].spec.params for model in self.models}
        rate = {model: self.objective.demands[model].rate_rps / parts[model] for model in self.models}
        demand = {model: self.objective.demands[model].spec.active_params * rate[model] for model in self.models}
        for first, sign in itertools.product((demand, size, rate), (-1, 1)):
            order = tuple((model, parts[model]) for model in sorted(self.models, key=lambda model: (sign * first[model], model)))
            if order not in tried and self._hold(parts) and not self.spent:
                state = fill(group, dict(order), self.objective, self.candidates, self.go_on, whole=self.effort.whole)
                if state is not None:
                    yield state
            tried.add(order)

    def _fewer(self, meshes: Mapping[Mesh, int]) -> Iterator[dict[str, int]]:
        """Replicas where the meshes cannot serve all: more of the LLMs that serve most requests a mesh, or fewer of all alike."""
        needs = {model: meshes_needed(model, meshes, self.objective, self.candidates) for model in self.models}
        there = sum(meshes.values())
        share = there / sum(needs.values())
        if share >= 1:
            return
        left, most_rps = max(0.0, there - sum(min(1.0, needed) for needed in needs.values())), {}
        for model in sorted(needs, key=lambda model: (-alone_rps(model, meshes, self.candidates), model)):
            more = min(max(0.0, needs[model] - 1), left)
            most_rps[model], left = 1 + int(more), left - more
        yield most_rps
        yield {model: max(1, int(needed * share)) for model, needed in needs.items()}


def fill(
    group: MeshGroup,
    parts: Mapping[str, int],
    objective: Objective,
    candidates: Candidates,
    go_on: Callable[[], bool] = lambda: True,
    *,
    whole: bool = False,
) -> State | None:
    """So many replicas of each LLM on the meshes of a group, in that order, each where it adds most; None if one finds no room, which is
    where all would be served if `whole`."""
    state: State | None = State.of(map(UnitContents, group))
    for model, count in parts.items():
        state = insert(state, model, count, objective, candidates, whole=whole)
        if state is None or not go_on():
            return None
    return state


def replicas(model: str, meshes: Mapping[Mesh, int], objective: Objective, candidates: Candidates) -> int:
    """Units that the rate of an LLM needs, each as good as if it had the best mesh alone; at most those that can hold it."""
    return min(math.ceil(meshes_needed(model, meshes, objective, candidates) * (1 - 1e-9)), rooms(model, meshes, candidates))


def meshes_needed(model: str, meshes: Mapping[Mesh, int], objective: Objective, candidates: Candidates) -> float:
    """Meshes that the rate of an LLM keeps busy, each as good as the best."""
    most_rps = alone_rps(model, meshes, candidates)
    return objective.demands[model].rate_rps / most_rps if most_rps > 0 else 1.0


def alone_rps(model: str, meshes: Iterable[Mesh], candidates: Candidates) -> float:
    """Requests a second of an LLM that has the best mesh alone."""
    return max(one.throughput_rps for mesh in meshes for one in candidates.on(model, mesh))


def rooms(model: str, meshes: Mapping[Mesh, int], candidates: Candidates) -> int:
    """Meshes that can hold an LLM."""
    return sum(count for mesh, count in meshes.items() if candidates.degrees(model, mesh))


def group_of(state: State) -> MeshGroup:
    """The meshes of a state."""
    return as_group(state.meshes)


def memory_bytes(problem: Problem) -> int:
    """For weights and cache, of all devices together."""
    return sum(pool.devices * problem.device_bytes(at) for at, pool in enumerate(problem.cluster.pools))


def _does_not_fit(problem: Problem, run: _Run) -> str:
    needed, there = sum(run.weights.values()), run.device_bytes
    if needed <= there and problem.fairness < math.inf:
        return f"no way was found to place all models with shares of the cache that differ by at most fairness={problem.fairness}"
    tried = f" in {run.objective.estimates} units that were tried" if run.spent else ""
    return (
        f"no way was found to place all models{tried}: their weights need {needed} bytes, {there} bytes of device memory are there for them"
    )
