"""From a placement to what each worker serves, on which devices: pure."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.placement.problem import Placed, Placement, UnitPlan

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSpec:
    """A unit to be served by one worker.

    Args:
      name: unlike any other's, and the same for the same devices.
      devices: their numbers on their host.
    """

    name: str
    devices: tuple[int, ...]
    options: UnitOptions

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.options.models)

    def without(self, model: str) -> "UnitSpec":
        """The unit with one model less, of which it has more."""
        left = tuple(own for own in self.options.models if own.name != model)
        lanes = None if self.options.lanes is None else min(self.options.lanes, len(left))
        return replace(self, options=replace(self.options, models=left, lanes=lanes))

    def rate_rps(self, model: str) -> float:
        """Requests a second that it is to serve of a model."""
        return next((own.rate for own in self.options.models if own.name == model), 1.0)


def unit_specs(placement: Placement, options: UnitOptions, *, devices: int | None = None) -> tuple[UnitSpec, ...]:
    """The units of a placement on the devices of one host, which they take in their order.

    Args:
      options: of all models, and what units have in common.
      devices: that the host has; None where that is not known.
    Raises:
      ConfigError: a model without options, more devices than there are, or a unit that cannot be.
    """
    filled = [unit for unit in placement.units if unit.members]
    if not filled:
        raise ConfigError("the placement has no unit with a model", field="placement")
    needed = sum(unit.devices for unit in filled)
    if devices is not None and needed > devices:
        raise ConfigError(f"the placement needs {needed} devices, and this host has {devices}", field="placement")
    _check_models(filled, options)
    firsts = [sum(unit.devices for unit in filled[:i]) for i in range(len(filled))]
    return tuple(_unit(unit, first, options) for unit, first in zip(filled, firsts, strict=True))


def _check_models(units: Iterable[UnitPlan], options: UnitOptions) -> None:
    there, placed = {model.name for model in options.models}, {member.model for unit in units for member in unit.members}
    if missing := sorted(placed - there):
        raise ConfigError(f"the placement has models that are not configured: {', '.join(missing)}", field="placement")
    if left := sorted(there - placed):
        _log.warning("not served, since the placement does not have them: %s", ", ".join(left))


def _unit(unit: UnitPlan, first: int, options: UnitOptions) -> UnitSpec:
    devices = tuple(range(first, first + unit.devices))
    name = str(first) if len(devices) == 1 else f"{first}-{devices[-1]}"
    by_name = {model.name: model for model in options.models}
    models = tuple(_model(by_name[member.model], member, unit) for member in unit.members)
    lanes = None if options.lanes is None or unit.devices > 1 else min(options.lanes, len(models))
    shares = options.sm_shares if unit.devices == 1 and len(models) > 1 and lanes != 1 else ()
    try:
        own = replace(options, models=models, tensor_parallel_size=unit.devices, lanes=lanes, sm_shares=shares)
    except ConfigError as error:
        raise ConfigError(f"unit {name}: {error}", field=error.field) from error
    return UnitSpec(name=name, devices=devices, options=own)


def _model(options: ModelOptions, placed: Placed, unit: UnitPlan) -> ModelOptions:
    """The model with its part of the rate, by which its quota is dealt."""
    if placed.tp < unit.devices:
        raise ConfigError(f"{placed.model} is placed on {placed.tp} of a unit's {unit.devices} devices", field="devices")
    return replace(options, rate=placed.rate_rps)
