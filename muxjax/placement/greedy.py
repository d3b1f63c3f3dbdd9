"""Algorithm 1: LLMs by computation demand, each to the mesh where it adds most, for each way to cut the cluster; then a local search.

Source: MuxServe (arXiv 2404.02015), algorithm 1. Ours besides: replicas, degrees below the mesh's, and the climbs at the end.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from muxjax.cost.chip import MeshSpec
from muxjax.cost.roofline import weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import MeshGroup, all_groups, few_groups, neighbours
from muxjax.placement.moves import Moves
from muxjax.placement.objective import Objective, UnitContents
from muxjax.placement.problem import Placement, Problem
from muxjax.placement.search import EQUAL, Move, State, climb, insert

COARSE = 32
"""A further look at groups ends when they differ by less than one part in so many of the devices."""
LEAST_CLIMBS, CLIMBS_A_FINALIST = 3, 18
"""On a larger cluster, quick climbs, and how many of them there are for each thorough one."""
LOOKS_EACH = 20
"""Other states a climb looks at, for each LLM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried.

    Args:
      groups: most mesh groups that are all searched, those that leave devices idle counted, as 8 devices have: there, a further device
        never lowers the result.
      cuts: of a cluster with more of them, those of the first look, which is coarse and refined around the best.
      breadth: then, quick climbs times the square of the LLMs, which is what one costs; but LEAST_CLIMBS at least, unless it is 0.
      looks: other states that a climb looks at, at least, and LOOKS_EACH for each LLM.
      parts: most replicas of an LLM; as many as its rate needs or meshes can take if None.
    """

    groups: int = 40
    cuts: int = 16
    breadth: int = 1200
    looks: int = 400
    parts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementResult:
    """A placement, and what it took to find it.

    Args:
      throughput_rps: of equation 1; groups, units: that were tried and estimated.
      growth: all rates may grow by this factor, at least, and still be served; 1 where nobody asked, or not all is served.
    """

    placement: Placement
    state: State
    throughput_rps: float
    groups: int
    units: int
    growth: float = 1.0


def place(problem: Problem, objective: Objective, candidates: Candidates, effort: Effort | None = None) -> PlacementResult:
    """The best placement found.

    Raises:
      ConfigError: an LLM, or all of them together, do not fit.
    """
    run = _Run(problem, objective, candidates, effort or Effort())
    run.search()
    if run.best is None:
        raise ConfigError(_does_not_fit(problem), field="models")
    return PlacementResult(
        placement=objective.placement(run.best),
        state=run.best,
        throughput_rps=objective.total(run.best),
        groups=len(run.looked_at),
        units=objective.estimates,
    )


class _Run:
    """One search: which groups were looked at, and the best state that was reached. Of equals, what was found first stays."""

    def __init__(self, problem: Problem, objective: Objective, candidates: Candidates, effort: Effort):
        self.cluster = problem.cluster
        self.models = tuple(demand.name for demand in problem.demands)
        self.demand_rps = sum(demand.rate_rps for demand in problem.demands)
        self.objective, self.candidates, self.effort = objective, candidates, effort
        self.moves = Moves(cluster=problem.cluster, objective=objective, candidates=candidates, most_parts=effort.parts)
        self.looked_at: dict[MeshGroup, State | None] = {}
        self.best: State | None = None

    @property
    def done(self) -> bool:
        """Whether no placement could serve more."""
        return self.best is not None and self._total(self.best) >= self.demand_rps * (1 - EQUAL)

    def search(self) -> None:
        """Quick climbs from every start of the groups, all or the best; then thorough ones from where they led, all or the best."""
        quick, slow = self.moves.quick(), self.moves.slow()
        groups = tuple(itertools.islice(all_groups(self.cluster), self.effort.groups + 1))
        if len(groups) <= self.effort.groups:
            self._climb(self._climb(self._every_start(groups), quick), quick + slow)
            return
        self._look_coarsely()
        if not self.done and self.effort.breadth:
            climbs = max(LEAST_CLIMBS, self.effort.breadth // len(self.models) ** 2)
            starts = self._every_start(map(as_group, self._by_rank(filter(None, self.looked_at.values()))))
            reached = self._by_rank(self._climb(itertools.islice(starts, climbs), quick))
            self._climb(reached[: math.ceil(climbs / CLIMBS_A_FINALIST)], quick + slow + self.moves.recutting())

    def _look_coarsely(self) -> None:
        """At each group of a first grain, then at those between the best ones, each with its first start."""
        groups, grain = few_groups(self.cluster, self.effort.cuts)
        self._look(groups)
        while grain > max(1, self.cluster.devices // COARSE) and self.best is not None:
            before = self.best
            self._look(neighbours(as_group(self.best), self.cluster, grain))
            if self.best is before:
                grain //= 2

    def _look(self, groups: Iterable[MeshGroup]) -> None:
        """At the first start of each."""
        for group in groups:
            if self.done:
                return
            if group not in self.looked_at:
                self.looked_at[group] = next(self._starts(group), None)
                self._keep(self.looked_at[group])

    def _climb(self, starts: Iterable[State], moves: list[Move]) -> list[State]:
        """States reached from each start, each once."""
        looks = max(self.effort.looks, LOOKS_EACH * len(self.models))
        reached: dict[State, State] = {}
        for start in (tuple(sorted(start)) for start in starts):
            if self.done:
                break
            if start not in reached:
                reached[start] = tuple(sorted(climb(start, moves, self.objective, looks=looks)))
                self._keep(reached[start])
        return list(dict.fromkeys(reached.values()))

    def _by_rank(self, states: Iterable[State]) -> list[State]:
        """The best first."""
        return sorted(states, key=lambda state: (-self._total(state), state))

    def _every_start(self, groups: Iterable[MeshGroup]) -> Iterator[State]:
        """Starts of all groups, one after the other."""
        for group in groups:
            self.looked_at.setdefault(group, None)
            yield from self._starts(group)

    def _keep(self, state: State | None) -> None:
        """As the best, if it is."""
        if state and (self.best is None or self._total(state) > self._total(self.best) * (1 + EQUAL)):
            self.best = state

    def _total(self, state: State) -> float:
        """Requests a second."""
        return self.objective.total(state)

    def _starts(self, group: MeshGroup) -> Iterator[State]:
        """Filled with as many replicas as the rates need, one each, or twice the need; in several orders, the most demanding LLM first."""
        if not group or not all(self.candidates.degrees(model, group[0]) for model in self.models):
            return
        needed = {model: replicas(model, group, self.objective, self.candidates) for model in self.models}
        size = {model: self.objective.demands[model].spec.params for model in self.models}
        most = {model: min(rooms(model, group, self.candidates), self.effort.parts or len(group)) for model in self.models}
        for least, times in ((needed, 1), (dict.fromkeys(self.models, 1), 1), (needed, 2)):
            parts = {model: min(times * least[model], most[model]) for model in self.models}
            rate = {model: self.objective.demands[model].rate_rps / parts[model] for model in self.models}
            demand = {model: size[model] * rate[model] for model in self.models}
            for first, sign in itertools.product((demand, size, rate), (-1, 1)):
                order = sorted(self.models, key=lambda model: (sign * first[model], model))
                state = fill(group, {model: parts[model] for model in order}, self.objective, self.candidates)
                if state is not None:
                    yield state


def fill(group: MeshGroup, parts: Mapping[str, int], objective: Objective, candidates: Candidates) -> State | None:
    """So many replicas of each LLM on the meshes of a group, in that order, each where it adds most; None if one finds no room."""
    state: State = tuple(UnitContents(devices) for devices in group)
    for model, count in parts.items():
        after = insert(state, model, count, objective, candidates)
        if after is None:
            return None
        state = after
    return state


def replicas(model: str, group: MeshGroup, objective: Objective, candidates: Candidates) -> int:
    """Units that the rate of an LLM needs, each as good as if it had the group's largest mesh alone; at most those that can hold it."""
    alone_rps = max(one.throughput_rps for one in candidates.of(model) if one.tp <= group[0])
    needed = objective.demands[model].rate_rps / alone_rps if alone_rps > 0 else 1
    return min(math.ceil(needed * (1 - 1e-9)), rooms(model, group, candidates))


def rooms(model: str, group: MeshGroup, candidates: Candidates) -> int:
    """Meshes that can hold an LLM."""
    return sum(size >= candidates.of(model)[0].tp for size in group)


def as_group(state: State) -> MeshGroup:
    """The meshes of a state, descending."""
    return tuple(sorted((contents.devices for contents in state), reverse=True))


def _does_not_fit(problem: Problem) -> str:
    cluster = problem.cluster
    needed = sum(weight_bytes(demand.spec, MeshSpec(chip=cluster.chip)) for demand in problem.demands)
    there = cluster.devices * problem.device_bytes
    if needed <= there and problem.fairness < math.inf:
        return f"no way was found to place all models with shares of the cache that differ by at most fairness={problem.fairness}"
    return f"no way was found to place all models: their weights need {needed} bytes, {there} bytes of device memory are there for them"
