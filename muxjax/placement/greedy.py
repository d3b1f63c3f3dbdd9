"""Algorithm 1: LLMs by computation demand, each to the mesh where it adds most, for each way to cut the cluster; then a local search.

Source: MuxServe (arXiv 2404.02015), algorithm 1. Ours besides: replicas, degrees below the mesh's, and the search at the end.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates, estimate_alone
from muxjax.placement.cluster import MeshGroup, few_groups, groups_with_idle_devices, neighbours
from muxjax.placement.costs import Costs
from muxjax.placement.estimator import score
from muxjax.placement.problem import Placement, Problem
from muxjax.placement.search import State, insert, polish
from muxjax.placement.worth import Content, Worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried.

    Args:
      groups: most mesh groups of the first look; where a cluster has more, they are cut coarsely and refined around the best.
      small: devices up to which groups that leave some idle are tried too and each group is searched: there, a further device never
        lowers the result.
      finalists: groups that are searched on larger clusters.
      parts: most replicas of an LLM.
      looks: other states that the search of a group looks at, for each LLM.
    """

    groups: int = 64
    small: int = 8
    finalists: int = 3
    parts: int = 8
    looks: int = 30


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
            self._try(group)
            self._polish(group)

    def search_the_best(self) -> None:
        """A look at each group of a first grain, at those between the best ones, and a search of the finalists."""
        groups, grain = few_groups(self.cluster, self.effort.groups)
        self._try_all(groups)
        while grain > 1 and self.best is not None:
            before = self._total(self.best)
            self._try_all(neighbours(as_group(self.best), self.cluster, grain))
            if self._total(self.best) <= before:
                grain //= 2
        for group in sorted((group for group, state in self.tried.items() if state), key=self._rank)[: self.effort.finalists]:
            if not self.done:
                self._polish(group)

    def _try_all(self, groups: Iterable[MeshGroup]) -> None:
        for group in groups:
            if self.done:
                return
            if group not in self.tried:
                self._try(group)

    def _try(self, group: MeshGroup) -> None:
        if group not in self.tried:
            self.tried[group] = fill(group, self.models, self.worth, self.candidates, self.effort.parts)

    def _polish(self, group: MeshGroup) -> None:
        state = self.tried[group]
        if state is not None and self._total(state) < self.demand_rps:
            looks = self.effort.looks * len(self.models)
            self.tried[group] = polish(state, self.worth, self.candidates, most_parts=self.effort.parts, looks=looks)

    def _total(self, state: State) -> float:
        return self.worth.total(state)

    def _rank(self, group: MeshGroup) -> tuple:
        state = self.tried[group]
        assert state is not None
        return -self._total(state), [-size for size in group]


def fill(group: MeshGroup, models: Sequence[str], worth: Worth, candidates: Candidates, most_parts: int) -> State | None:
    """The LLMs on the meshes of a group, the most demanding first; where that leaves one without room, the largest first.

    Returns None if the group has no room for all of them either way, or no mesh large enough for one.
    """
    if group and all(candidates.degrees(model, group[0]) for model in models):
        parts = {model: min(replicas(model, group, worth, candidates), most_parts) for model in models}
        size = {model: worth.demands[model].spec.params for model in models}
        demand = {model: size[model] * worth.demands[model].rate_rps / parts[model] for model in models}
        for key in (demand, size):
            state: State | None = tuple(Content(devices) for devices in group)
            for model in sorted(models, key=lambda model: (-key[model], model)):
                state = state and insert(state, model, parts[model], worth, candidates)
            if state:
                return state
    return None


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
    needed = sum(demand.spec.params * 2 for demand in problem.demands)
    there = int(cluster.devices * cluster.chip.memory_bytes * problem.memory_frac)
    return f"no way was found to place all models: their weights need {needed} bytes, {there} bytes of device memory are there for them"
