"""From a placement to what each worker serves, on which devices: pure, but that configurations of models to be quantised are read."""

import itertools
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from muxjax.cost.chip import CHIPS
from muxjax.engine.options import MOST_DEVICES, ModelOptions, UnitOptions
from muxjax.errors import ConfigError, require, shown
from muxjax.model_spec import ModelSpec
from muxjax.placement.problem import PRECISIONS, Placed, Placement, UnitPlan
from muxjax.quantization import INT4, WEIGHTS
from muxjax.scheduler.policies import default
from muxjax.specs.config import read_spec

FAMILIES = tuple(chip.family for chip in CHIPS.values())
_LAST_DEVICE = 2**20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSpec:
    """A unit to be served by one worker.

    Args:
      name: unlike any other's, and the same for the same devices.
      devices: their numbers on their host.
      chip: what the devices are to be, as of `Placement`.
    """

    name: str
    devices: tuple[int, ...]
    options: UnitOptions
    chip: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.options.models)

    @property
    def asked(self) -> UnitOptions:
        """What its worker is asked to serve: the same whichever adapters there are."""
        return replace(self.options, models=tuple(model.unnamed_loras for model in self.options.models))

    def without(self, model: str) -> "UnitSpec":
        """The unit with one model less, of which it has more."""
        return replace(self, options=self.options.without(model))

    def plus(self, model: ModelOptions) -> "UnitSpec":
        """The unit with one model more."""
        return replace(self, options=self.options.plus(model))

    def rate_rps(self, model: str) -> float:
        """Requests a second that it is to serve of a model."""
        return next((own.rate for own in self.options.models if own.name == model), 1.0)


def unit_specs(
    placement: Placement, options: UnitOptions, *, devices: int | None = None, models: Iterable[ModelOptions] | None = None
) -> tuple[UnitSpec, ...]:
    """The units of a placement on the devices of one host, which they take in their order.

    Args:
      options: of all models, and what units have in common.
      devices: that the host has; None where that is not known.
      models: that there are, in place of those of the options.
    Raises:
      ConfigError: a model without options, more devices than there are, a unit that cannot be, or a model that cannot be held in as few
        bits as the placement has it.
    """
    filled = [unit for unit in placement.units if unit.members]
    if not filled:
        raise ConfigError("the placement has no unit with a model", field="placement")
    firsts = _firsts(filled)
    needed = max(first + unit.devices for first, unit in zip(firsts, filled, strict=True))
    if devices is not None and needed > devices:
        raise ConfigError(f"{needed} devices are needed, and there are {devices}", field="placement")
    for unit, first in zip(filled, firsts, strict=True):  # before all are listed
        require(1 <= unit.devices <= MOST_DEVICES, "devices", unit.devices, f"1 to {MOST_DEVICES} of a unit")
        require(0 <= first <= _LAST_DEVICE, "first_device", first, f"0 to {_LAST_DEVICE}")
    taken = [device for first, unit in zip(firsts, filled, strict=True) for device in range(first, first + unit.devices)]
    if shared := sorted({device for device, count in Counter(taken).items() if count > 1}):
        raise ConfigError(f"the placement has units that share a device: {shown(shared)}", field="placement")
    by_name = {model.name: model for model in (options.models if models is None else models)}
    _check_models(filled, by_name)
    return tuple(
        replace(_unit(unit, first, options, by_name), chip=placement.chip(unit)) for unit, first in zip(filled, firsts, strict=True)
    )


def as_served(placement: Placement, specs: Iterable[UnitSpec]) -> Placement:
    """The placement with the models that its units have by now: they also come and go by themselves."""
    filled, by_name = [unit for unit in placement.units if unit.members], {spec.name: spec for spec in specs}
    numbered = [replace(unit, first_device=first) for first, unit in zip(_firsts(filled), filled, strict=True)]
    served = [_with_models_of(spec, unit) for unit in numbered if (spec := by_name.get(_name(unit)))]
    return replace(placement, units=tuple(served))


def _with_models_of(spec: UnitSpec, unit: UnitPlan) -> UnitPlan:
    """The unit without members that have gone, and with those that came."""
    placed = {member.model for member in unit.members}
    came = tuple(_placed(model, spec.options) for model in spec.options.models if model.name not in placed)
    return replace(unit, members=(*(member for member in unit.members if member.model in spec.models), *came))


def one_unit(options: UnitOptions) -> Placement:
    """The placement of all models on the devices of one unit, the first ones of the host."""
    members = tuple(_placed(model, options) for model in options.models)
    return Placement(units=(UnitPlan(devices=options.tensor_parallel_size, members=members),))


def _placed(model: ModelOptions, unit: UnitOptions) -> Placed:
    """The model as a unit has it by its own options."""
    return Placed(model=model.name, rate_rps=model.rate or 1.0, devices=unit.devices_of(model))


def is_other_chip(device: str, chip: str) -> bool:
    """The device, by JAX's name, is of a kind that we know, and not of the one that the placement was made for."""
    wanted, found = family(chip), [known for known in FAMILIES if known in device]
    return bool(found and wanted) and wanted not in found


def family(chip: str) -> str:
    """Of a chip that we know, "A100" of "A100-80GB"; empty of others."""
    return next((known for known in FAMILIES if known == chip.partition("-")[0]), "")


def _firsts(units: Sequence[UnitPlan]) -> list[int]:
    """Number of the first device of each unit: as the placement says, or one after the other."""
    told = [unit.first_device for unit in units if unit.first_device is not None]
    if len(told) == len(units):
        return told
    return list(itertools.accumulate((unit.devices for unit in units[:-1]), initial=0))


def _check_models(units: Iterable[UnitPlan], models: Collection[str]) -> None:
    there, placed = {*models}, {member.model for unit in units for member in unit.members}
    if missing := sorted(placed - there):
        raise ConfigError(f"the placement has models that are not configured: {', '.join(missing)}", field="placement")
    if left := sorted(there - placed):
        _log.warning("not served, since the placement does not have them: %s", ", ".join(left))


def _name(unit: UnitPlan) -> str:
    """Of a unit whose devices are numbered."""
    first = unit.first_device or 0
    return str(first) if unit.devices == 1 else f"{first}-{first + unit.devices - 1}"


def _unit(unit: UnitPlan, first: int, options: UnitOptions, by_name: Mapping[str, ModelOptions]) -> UnitSpec:
    devices, name = tuple(range(first, first + unit.devices)), _name(replace(unit, first_device=first))
    models = tuple(_model(by_name[member.model], member, unit) for member in unit.members)
    try:
        own = options.serving(models, devices=unit.devices)
    except ConfigError as error:
        raise ConfigError(f"unit {name}: {error}", field=error.field) from error
    return UnitSpec(name=name, devices=devices, options=_leaving(own, unit.members))


def _leaving(options: UnitOptions, members: Sequence[Placed]) -> UnitOptions:
    """The unit with long prefills that leave the decodes of the other models the multiprocessors that these need for their rates.

    Only where steps run beside each other on one device, under a policy that chooses shares, and nobody has said any; and where the
    others do not need all of it.
    """
    policy = options.policy or default(options.most_lanes)
    if options.most_lanes == 1 or policy != "mux" or options.sm_shares:
        return options
    needs = {member.model: member.sm_share for member in members}

    def leaving(model: ModelOptions) -> ModelOptions:
        beside = sum(need for name, need in needs.items() if name != model.name)
        said = model.prefill_share is not None or beside >= 1
        return model if said else replace(model, prefill_share=1 - beside)

    return replace(options, models=tuple(map(leaving, options.models)))


def _model(options: ModelOptions, placed: Placed, unit: UnitPlan) -> ModelOptions:
    """The model with its part of the rate, by which its quota is dealt."""
    require(0 < placed.sm_share <= 1, f"sm_share of {placed.model}", placed.sm_share, "over 0, to 1")
    fits = bool(placed.devices) and set(placed.devices) <= set(range(unit.devices)) and len(set(placed.devices)) == placed.tp
    require(fits, f"devices of {placed.model}", list(placed.devices), f"of the {unit.devices} of its unit, each once")
    options = _with_weights(_with_cache(options, placed.cache), placed.weights)
    return replace(options, rate=placed.rate_rps, devices=placed.devices if placed.tp < unit.devices else None)


def _with_cache(options: ModelOptions, placed: str) -> ModelOptions:
    """The model with a cache of no more bytes than the placement has it have; a narrower one of its own stays."""
    if options.has_fp8_cache or PRECISIONS[placed] >= PRECISIONS["bf16"]:
        return options
    if placed != "fp8":
        raise ConfigError(
            f"the placement has the cache of {options.name} in {placed}, which muxjax has none in: place it with cache: fp8", field="cache"
        )
    return replace(options, kv_cache_dtype="fp8")


def _with_weights(options: ModelOptions, placed: str) -> ModelOptions:
    """The same of its weights, which stay as they are stored, or as its options say, where that is as narrow."""
    if PRECISIONS[placed] >= PRECISIONS["bf16"]:
        return options
    held = _weights(options)
    if PRECISIONS[held] <= PRECISIONS[placed]:
        return options
    if placed != "fp8":
        raise ConfigError(
            f"the placement has the weights of {options.name} in {placed}, and they would be in {held}: muxjax rounds them to fp8 alone; "
            f"place it with weights: fp8, or give a checkpoint that is stored in {placed}",
            field="weights",
        )
    rounded = replace(options, quantization=WEIGHTS)
    try:
        _read(rounded)
    except ConfigError as error:
        raise ConfigError(f"the placement has the weights of {options.name} in fp8: {error}", field=error.field) from error
    return rounded


def _weights(options: ModelOptions) -> str:
    """How a model's weights are held by its options and its checkpoint, of PRECISIONS."""
    if options.quantization:
        return "fp8"
    stored = _read(options).quantization
    if stored is None:
        return "bf16"
    return "int4" if stored.dtype == INT4 else "fp8"


def _read(options: ModelOptions) -> ModelSpec:
    """By its configuration alone."""
    return read_spec(options.path, **replace(options, load_format="dummy").reading)
