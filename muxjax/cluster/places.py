"""The units of a cluster, and which of them serve which model: what is asked before a request is given to one."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from muxjax.cluster.facts import checker_of
from muxjax.cluster.remote_unit import RemoteUnit, UnitState
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.grammar import Grammars
from muxjax.engine.options import ModelOptions
from muxjax.engine.request_checker import RequestChecker
from muxjax.engine.stats import Status, UnitStats
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec
from muxjax.types import Request

_RETRY_S = 5.0
_ORDER: Sequence[str] = ("ready", "waking", "asleep", "falling asleep", "restarting", "loading", "draining", "unloading", "failed")
"""States of a model, the best first."""


class Places:
    """Units by name. They are changed in the event loop's thread; any may look.

    Attributes:
      units: replaced, never changed.
    """

    def __init__(self):
        self.units: Mapping[str, RemoteUnit] = {}
        self._checkers: Mapping[str, RequestChecker] = {}  # of units that have facts; likewise
        self._grammars: dict[str, Grammars | None] = {}  # of each model's tokenizer
        self._expected: frozenset[str] = frozenset()
        self._left: Mapping[str, RequestChecker] = {}  # of units that were dropped while models are expected; replaced too
        self._closed: frozenset[tuple[str, str]] = frozenset()  # (unit, model)

    @property
    def is_changing(self) -> bool:
        """Models are expected."""
        return bool(self._expected)

    def learn(self, model: ModelOptions, spec: ModelSpec) -> None:
        """Reads what a model's requests are checked by, before it is served; takes a while.

        Raises:
          ConfigError: it cannot be read.
        """
        self._grammars[model.name] = Grammars.of(model.path, spec)

    def add(self, unit: RemoteUnit) -> None:
        """One more unit."""
        self.units = {**self.units, unit.name: unit}

    def drop(self, name: str) -> RemoteUnit:
        """The unit of that name, which is none of the cluster's any more."""
        unit = self.units[name]
        if self.is_changing and name in self._checkers:
            self._left = {**self._left, name: self._checkers[name]}  # until their models are somewhere, requests are checked by that
        self.units = {other: one for other, one in self.units.items() if other != name}
        self._checkers = {other: one for other, one in self._checkers.items() if other != name}
        return unit

    def note_facts(self, unit: RemoteUnit) -> None:
        """A unit has facts, perhaps other ones."""
        assert unit.facts is not None
        self._checkers = {**self._checkers, unit.name: checker_of(unit.facts, self._grammars)}

    @contextlib.contextmanager
    def expecting(self, models: Iterable[str]) -> Iterator[None]:
        """Somebody will serve these models, even where nobody does yet."""
        self._expected = frozenset(models)
        try:
            yield
        finally:
            self._expected, self._left = frozenset(), {}

    @contextlib.contextmanager
    def closing(self, name: str, models: Iterable[str]) -> Iterator[None]:
        """A unit takes no more requests for these models."""
        closed = {(name, model) for model in models}
        self._closed |= closed
        try:
            yield
        finally:
            self._closed -= closed

    def takers(self, model: str) -> list[RemoteUnit]:
        """Units that take requests for it now."""
        ready = [unit for unit in self.units.values() if unit.state is UnitState.READY and (unit.name, model) not in self._closed]
        return [unit for unit in ready if _takes(self._checkers.get(unit.name), model)]

    def is_coming(self, model: str) -> bool:
        """Some unit will serve it, if all goes well."""
        return model in self._expected or any(unit.state.is_coming for unit in self._units_of(model))

    def check(self, request: Request, *, prepared: bool) -> None:
        """Raises RequestError: no unit could serve it, ever or now."""
        self.checker(request.model)
        error: RequestError | None = None
        for checker in self._checkers_of(request.model):
            try:
                return checker.check(request, prepared=prepared)
            except RequestError as refused:
                error = refused
        raise error or self._not_now(request.model)

    def checker(self, model: str) -> RequestChecker:
        """What is known of the model, by the largest cache that there is for it.

        Raises:
          RequestError: no unit has said anything of it yet, or none ever will.
        """
        served = any(unit.state in (UnitState.READY, UnitState.RESTARTING) for unit in self._units_of(model)) or model in self._expected
        checkers = self._checkers_of(model)
        if not served or not checkers:
            raise self._not_now(model)
        return checkers[0]

    def unit_stats(self) -> Mapping[str, UnitStats]:
        """Counts of each unit that serves."""
        return {name: unit.pulse.stats for name, unit in self.units.items() if unit.pulse and unit.pulse.stats}

    def states(self) -> Mapping[str, str]:
        """State of each model in a word, the best of its units'."""
        states: dict[str, str] = {}
        for unit in self.units.values():
            for model, state in _model_states(unit).items():
                states[model] = min(state, states.get(model, state), key=_rank)
        waited_for = {model: "restarting" for model in self._expected if states.get(model, "loading") == "loading"}
        return states | waited_for

    def programs(self) -> Mapping[str, ProgramProgress]:
        """How far each model's programs are, where they have come least far."""
        found: dict[str, ProgramProgress] = {}
        for unit in self.units.values():
            for model, progress in (unit.pulse.programs if unit.pulse else {}).items():
                found[model] = min(progress, found.get(model, progress))
        return found

    def _checkers_of(self, model: str) -> list[RequestChecker]:
        now, before = ([own for own in known.values() if model in own.models] for known in (self._checkers, self._left))
        return sorted(now or before, key=lambda checker: -checker.total_blocks)

    def _units_of(self, model: str) -> list[RemoteUnit]:
        """Units that serve the model, or are to."""
        return [unit for unit in self.units.values() if model in unit.spec.models]

    def _not_now(self, model: str) -> RequestError:
        if self.is_coming(model):
            text = f"The model `{model}` is loading."
            return RequestError(text, param="model", code="model_loading", status=503, retry_after_s=_RETRY_S)
        units = self._units_of(model)
        if not units:
            return unplaced(model)
        trouble = "; ".join(f"unit {unit.name}: {unit.trouble}" for unit in units if unit.trouble)
        text = f"The model `{model}` has failed: {trouble or 'no unit serves it'}."
        return RequestError(text, param="model", code="model_failed", status=503)


def unplaced(model: str) -> RequestError:
    """The placement leaves a model out."""
    return RequestError(f"The model `{model[:200]}` is in no unit of the placement.", param="model", code="model_unplaced", status=503)


def _takes(checker: RequestChecker | None, model: str) -> bool:
    return checker is not None and model in checker.models and checker.models[model].status is Status.READY


def _rank(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)


def _model_states(unit: RemoteUnit) -> Mapping[str, str]:
    """State of each model of a unit."""
    if unit.state is UnitState.READY and unit.facts:
        return unit.pulse.states if unit.pulse else {fact.name: fact.status.value for fact in unit.facts.models}
    state = "failed" if unit.state.is_away else "restarting" if unit.state is UnitState.RESTARTING else "loading"
    return dict.fromkeys(unit.spec.models, state)
