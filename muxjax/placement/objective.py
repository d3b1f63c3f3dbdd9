"""Objective of placement, of units by their contents, which are laid out and estimated once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from muxjax.placement.cluster import Mesh, first_devices
from muxjax.placement.goals import Worth, throughput
from muxjax.placement.problem import Demand, Placed, Placement, Problem, UnitPlan

NO_UNIT = float("-inf")
"""Objective of what cannot be a unit: weights do not fit, or no schedule is fair enough."""


class Member(NamedTuple):
    """An LLM in a unit.

    Args:
      parts: its whole rate over this replica's: how many there are, where they share it evenly, as all placers have it but the program.
      tp: devices that hold its weights.
    """

    model: str
    parts: float
    tp: int


class UnitContents(NamedTuple):
    """A mesh and who is in it, by name: equal units are equal values."""

    mesh: Mesh
    members: tuple[Member, ...] = ()

    def plus(self, member: Member) -> "UnitContents":
        return UnitContents(self.mesh, tuple(sorted((*self.members, member))))

    def without(self, model: str) -> "UnitContents":
        if not self.holds(model):
            return self
        return UnitContents(self.mesh, tuple(member for member in self.members if member.model != model))

    def member(self, model: str) -> Member:
        """The replica of that LLM, which the unit holds."""
        return next(member for member in self.members if member.model == model)

    def holds(self, model: str) -> bool:
        return model in [member.model for member in self.members]  # a search asks millions of times; `any` takes thrice as long


Units = tuple[UnitContents, ...]
"""Units of a cluster."""
Score = Callable[[UnitPlan], float]
"""What a unit is worth, or NO_UNIT."""


class Objective:
    """What units are worth by their contents, each asked for once.

    Args:
      score: of a unit: the sum, over its replicas, of the worth of what is served, times the LLM's weight, over `Member.parts`.
      sm_share: of a replica, by model, parts and the mesh that holds its weights; all of a device where nothing is told.
      worth: of a served share, which `score` sums.
    """

    def __init__(
        self,
        problem: Problem,
        score: Score,
        sm_share: Callable[[str, float, Mesh], float] = lambda model, parts, mesh: 1.0,
        worth: Worth = throughput,
    ):
        self.problem = problem
        self.demands: Mapping[str, Demand] = {demand.name: demand for demand in problem.demands}
        self._score = score
        self._sm_share = sm_share
        self._worth = worth
        self._known: dict[UnitContents, float] = {}
        self._alone: dict[tuple[str, float, float], float] = {}
        self._loads: dict[UnitContents, float] = {}
        chips = problem.cluster.chips
        self._speed = [chip.flops_per_s / max(one.flops_per_s for one in chips) for chip in chips]
        self._params = {demand.name: demand.spec.active_params for demand in problem.demands}
        self._most = {demand.name: demand.weight * worth(demand.rate_rps, 1.0) for demand in problem.demands}
        self.most_worth = sum(self._most.values())
        """Of a placement that serves everything."""

    @property
    def estimates(self) -> int:
        """Units that were estimated."""
        return len(self._known)

    def of(self, contents: UnitContents) -> float:
        """What it is worth, NO_UNIT if it cannot be."""
        if not contents.members:
            return 0.0
        worth = self._known.get(contents)
        if worth is None:
            worth = self._known[contents] = float(self._score(self.plan(contents)))
        return worth

    def most(self, model: str, parts: float = 1) -> float:
        """What one of so many replicas is worth that serves its whole rate."""
        return self._most[model] / parts

    def alone(self, model: str, parts: float, served_rps: float) -> float:
        """What one of so many replicas is worth that serves so much within its targets."""
        key = model, parts, served_rps
        worth = self._alone.get(key)
        if worth is None:
            demand = self.demands[model]
            worth = demand.weight * self._worth(demand.rate_rps, served_rps * parts / demand.rate_rps) / parts
            self._alone[key] = worth
        return worth

    def short(self, contents: UnitContents) -> bool:
        """Whether it serves less than its rates, or late."""
        return self.of(contents) < sum(self.most(member.model, member.parts) for member in contents.members) * (1 - 1e-9)

    def serves_all(self, worth: float) -> bool:
        """Whether a placement of that worth serves everything within its targets."""
        return worth >= self.most_worth * (1 - 1e-9)

    def total(self, units: Iterable[UnitContents]) -> float:
        """What they are worth together."""
        return sum(sorted(map(self.of, units)))

    def load(self, contents: UnitContents) -> float:
        """Computation demand, size x rate, in parameters a second, over the speed of the mesh."""
        load = self._loads.get(contents)
        if load is None:
            load = self._loads[contents] = sum(map(self.demanded, contents.members)) / self.speed(contents.mesh)
        return load

    def demanded(self, member: Member) -> float:
        """Computation demand of a replica, size x rate, in parameters a second."""
        return self._params[member.model] * self.demands[member.model].rate_rps / member.parts

    def speed(self, mesh: Mesh) -> float:
        """How fast it computes, in devices of the fastest kind."""
        return mesh.devices * self._speed[mesh.pool]

    def plan(self, contents: UnitContents, sm_share: Callable[[Member], float] = lambda member: 1.0) -> UnitPlan:
        """The unit laid out: the most demanding LLM first, each on the devices with the most memory left.

        Args:
          sm_share: of a member; no score depends on it, so a search does without.
        """
        devices, pool = contents.mesh
        used = [0.0] * devices
        placed = []
        for member in sorted(contents.members, key=lambda member: (-self.demanded(member), member)):
            own = list(range(devices))
            if member.tp < devices:
                own = sorted(sorted(own, key=used.__getitem__)[: member.tp])
            for device in own:
                used[device] += self._params[member.model] / member.tp
            demand = self.demands[member.model]
            placed.append(
                Placed(
                    model=member.model,
                    rate_rps=demand.rate_rps / member.parts,
                    devices=tuple(own),
                    sm_share=sm_share(member),
                    weights=demand.weights,
                    cache=demand.cache,
                )
            )
        return UnitPlan(devices=devices, pool=pool, members=tuple(placed))

    def placement(self, units: Iterable[UnitContents]) -> Placement:
        """Placement of the units that hold something, the largest meshes first, each with its devices."""
        filled = sorted((contents for contents in units if contents.members), key=_order)
        plans = [self._laid_out(contents) for contents in filled]
        numbers = first_devices(tuple(contents.mesh for contents in filled), self.problem.cluster)
        laid_out = tuple(replace(plan, first_device=first) for plan, first in zip(plans, numbers, strict=True))
        return Placement(units=laid_out, chips=tuple(chip.name for chip in self.problem.cluster.chips))

    def _laid_out(self, contents: UnitContents) -> UnitPlan:
        """With the SM shares that its LLMs need."""
        return self.plan(contents, lambda member: self._sm_share(member.model, member.parts, Mesh(member.tp, contents.mesh.pool)))


def _order(contents: UnitContents) -> tuple:
    return -contents.mesh.devices, contents.mesh.pool, contents.members
