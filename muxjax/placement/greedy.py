"""Algorithm 1: LLMs by computation demand, each to the mesh where it adds most, for each way to cut the cluster; then a local search.

Source: MuxServe (arXiv 2404.02015), algorithm 1. Ours besides: replicas, degrees below the mesh's, and the search at the end.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates, estimate_alone
from muxjax.placement.cluster import MeshGroup, few_groups, groups_with_idle_devices, neighbours
from muxjax.placement.cost import MeshSpec, weight_bytes
from muxjax.placement.costs import Costs
from muxjax.placement.estimator import score
from muxjax.placement.problem import Placement, Problem
from muxjax.placement.search import State, insert, polish
from muxjax.placement.worth import Content, Worth

COARSE = 32
"""A further look at groups ends when they differ by less than one part in so many of the devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried.

    Args:
      groups: most mesh groups of the first look; where a cluster has more, they are cut coarsely and refined around the best.
      small: devices up to which groups that leave some idle are tried too and each group is searched: there, a further device never
        lowers the result.
      finalists: groups that are searched on larger clusters.
      starts: of the search of a group of a small cluster, at most.
      parts: most replicas of an LLM.
      looks, finalist_looks: other states that such a search, and that of a finalist, looks at, for each LLM.
    """

    groups: int = 64
    small: int = 8
    finalists: int = 2
    starts: int = 12
    parts: int = 8
    looks: int = 60
    finalist_looks: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A placement, and what it took to find it.

    Args:
      throughput_rps: of equation 1; groups, units: that were tried and estimated.
    """

    placement: Placement
    throughput_rps: float
    groups: int
    units: int


def place(problem: Problem, worth: Worth, candidates: Candidates, effort: Effort | None = None) -> Found:
    """The best placement found.

    Raises:
      ConfigError: an LLM, or all of them together, do not fit.
    """
    run = _Run(problem, worth, candidates, effort or Effort())
    if problem.cluster.devices <= run.effort.small:
        run.search_everything()
    else:
        run.search_the_best()
    if run.best is None:
        raise ConfigError(_does_not_fit(problem), field="models")
    return Found(placement=worth.placement(run.best), throughput_rps=worth.total(run.best), groups=len(run.tried), units=worth.asked)


def appraise(problem: Problem, costs: Costs) -> tuple[Worth, Candidates]:
    """Worth of units and candidates of LLMs by the estimator: what all placers ask.

    Raises:
      ConfigError: an LLM fits no mesh.
    """
    candidates = Candidates(problem, estimate_alone(problem, costs))
    return Worth(problem, score(problem, costs), candidates.sm_share), candidates


class _Run:
    """One search: what was tried, and the best of it. Of equals, what was found first stays."""

    def __init__(self, problem: Problem, worth: Worth, candidates: Candidates, effort: Effort):
        self.cluster = problem.cluster
        self.models = tuple(demand.name for demand in problem.demands)
        self.demand_rps = sum(demand.rate_rps for demand in problem.demands)
        self.worth, self.candidates, self.effort = worth, candidates, effort
        self.tried: dict[MeshGroup, State | None] = {}

    @property
    def best(self) -> State | None:
        return max(filter(None, self.tried.values()), key=self._total, default=None)

    @property
    def done(self) -> bool:
        """Whether no placement could serve more."""
        return self.best is not None and self._total(self.best) >= self.demand_rps * (1 - 1e-9)

    def search_everything(self) -> None:
        """All groups, each with a search of its own."""
        groups, _ = few_groups(self.cluster, self.effort.groups)
        for group in (*groups, *groups_with_idle_devices(self.cluster)):
            if self.done:
                return
            self._polish(group, starts=self.effort.starts, looks=self.effort.looks)

    def search_the_best(self) -> None:
        """A look at each group of a first grain, at those between the best ones, and a search of the finalists."""
        groups, grain = few_groups(self.cluster, self.effort.groups)
        self._try(groups)
        while grain > max(1, self.cluster.devices // COARSE) and self.best is not None:
            before = self._total(self.best)
            self._try(neighbours(as_group(self.best), self.cluster, grain))
            if self._total(self.best) <= before:
                grain //= 2
        for group in sorted((group for group, state in self.tried.items() if state), key=self._rank)[: self.effort.finalists]:
            if not self.done:
                self._polish(group, starts=1, looks=self.effort.finalist_looks)

    def _try(self, groups: Iterable[MeshGroup]) -> None:
        """With the first start of each group that has room."""
        for group in groups:
            if self.done:
                return
            if group not in self.tried:
                self.tried[group] = next(self._starts(group), None)

    def _polish(self, group: MeshGroup, *, starts: int, looks: int) -> None:
        """The best that a search finds from any start."""
        best = None
        for start in dict.fromkeys(itertools.islice(self._starts(group), starts)):
            state = polish(start, self.worth, self.candidates, most_parts=self.effort.parts, looks=looks * len(self.models))
            best = max(filter(None, (best, state)), key=self._total)
        self.tried[group] = best

    def _starts(self, group: MeshGroup) -> Iterator[State]:
        """Filled with as many replicas as the rates need, else with one each; the most demanding, largest or smallest LLM first."""
        if not group or not all(self.candidates.degrees(model, group[0]) for model in self.models):
            return
        needed = {model: min(replicas(model, group, self.worth, self.candidates), self.effort.parts) for model in self.models}
        size = {model: self.worth.demands[model].spec.params for model in self.models}
        for parts in (needed, dict.fromkeys(self.models, 1)):
            rate = {model: self.worth.demands[model].rate_rps / parts[model] for model in self.models}
            demand = {model: size[model] * rate[model] for model in self.models}
            for first, sign in itertools.product((demand, size, rate), (-1, 1)):
                order = sorted(self.models, key=lambda model: (sign * first[model], model))
                state = fill(group, {model: parts[model] for model in order}, self.worth, self.candidates)
                if state is not None:
                    yield state

    def _total(self, state: State) -> float:
        return self.worth.total(state)

    def _rank(self, group: MeshGroup) -> tuple:
        state = self.tried[group]
        assert state is not None
        return -self._total(state), [-size for size in group]


def fill(group: MeshGroup, parts: Mapping[str, int], worth: Worth, candidates: Candidates) -> State | None:
    """So many replicas of each LLM on the meshes of a group, in that order, each where it adds most; None if one finds no room."""
    state: State = tuple(Content(devices) for devices in group)
    for model, count in parts.items():
        after = insert(state, model, count, worth, candidates)
        if after is None:
            return None
        state = after
    return state


def replicas(model: str, group: MeshGroup, worth: Worth, candidates: Candidates) -> int:
    """Units that the rate of an LLM needs, each as good as if it had the group's largest mesh alone; at most those that can hold it."""
    alone_rps = max(one.throughput_rps for one in candidates.of(model) if one.tp <= group[0])
    least = candidates.of(model)[0].tp
    needed = worth.demands[model].rate_rps / alone_rps if alone_rps > 0 else 1
    return min(math.ceil(needed * (1 - 1e-9)), sum(size >= least for size in group))


def as_group(state: State) -> MeshGroup:
    """The meshes of a state, descending."""
    return tuple(sorted((content.devices for content in state), reverse=True))


def _does_not_fit(problem: Problem) -> str:
    cluster = problem.cluster
    needed = sum(weight_bytes(demand.spec, MeshSpec(chip=cluster.chip)) for demand in problem.demands)
    there = cluster.devices * problem.device_bytes
    if needed <= there and problem.fairness < math.inf:
        return f"no way was found to place all models with shares of the cache that differ by at most fairness={problem.fairness}"
    return f"no way was found to place all models: their weights need {needed} bytes, {there} bytes of device memory are there for them"
