"""Which models are to be awake: those that are idle go to sleep, and those of a group make room for each other (`ModelGroup`)."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from muxjax.engine.options import ModelGroup, ModelOptions, UnitOptions
from muxjax.engine.stats import ModelStats, Status, UnitStats
from muxjax.errors import first_line

DRAIN_S = 300.0
"""That requests of a model have which is to sleep or to go, where nobody says how long."""
_LOOK_S, _AGAIN_S = 1.0, 60.0
_log = logging.getLogger(__name__)


def making_room(waking: ModelOptions, awake: Iterable[ModelOptions], groups: Iterable[ModelGroup]) -> list[str]:
    """Names of the models awake that sleep as long as that one does not."""
    if waking.group is None:
        return []
    by_name = {group.name: group for group in groups}
    own = by_name.get(waking.group, ModelGroup(name=waking.group))

    def gives_way(other: ModelOptions) -> bool:
        if other.name == waking.name or other.group is None:
            return False
        if other.group == waking.group:
            return own.swap
        return own.exclusive and not by_name.get(other.group, ModelGroup(name=other.group)).persistent

    return [other.name for other in awake if gives_way(other)]


def surplus(awake: Iterable[ModelOptions], groups: Collection[ModelGroup]) -> list[str]:
    """Names of the models awake that others make no room for, those configured first staying: all are awake after a start."""
    staying: list[ModelOptions] = []
    leaving: list[str] = []
    for model in awake:
        conflicts = any(making_room(model, [other], groups) or making_room(other, [model], groups) for other in staying)
        if conflicts:
            leaving.append(model.name)
        else:
            staying.append(model)
    return leaving


class Idleness:
    """How long models have had nothing to do, as far as counts tell that are looked at now and then."""

    def __init__(self):
        self._last: dict[str, tuple[tuple[int, ...], float]] = {}

    def look(self, models: Iterable[ModelStats], now_s: float) -> Mapping[str, float]:
        """Seconds by name; 0 of a model that has requests, or has had any since the last look, and of one that sleeps."""
        idle_s = {}
        for model in models:
            counts = (model.prefill_tokens, model.decode_tokens)
            before, since_s = self._last.get(model.name, (None, now_s))
            if model.running or model.waiting or counts != before or model.status is not Status.READY:
                since_s = now_s
            self._last[model.name] = counts, since_s
            idle_s[model.name] = now_s - since_s
        return idle_s


class Sleeper(Protocol):
    """What puts models to sleep; see `Fleet`."""

    options: UnitOptions

    def states(self) -> Mapping[str, str]: ...
    async def sleep(self, name: str, *, timeout_s: float) -> None: ...


class Residency:
    """Puts models to sleep that are idle, or awake beside others of their group."""

    def __init__(self, fleet: Sleeper, stats: Callable[[], UnitStats]):
        self._fleet, self._stats = fleet, stats
        self._idleness = Idleness()
        self._again_s: dict[str, float] = {}  # when it is tried again with whom it went wrong

    async def run(self) -> None:
        """A chore, as long as the service runs."""
        while True:
            await self.look(time.monotonic())
            await asyncio.sleep(_LOOK_S)

    async def look(self, now_s: float) -> None:
        """Puts to sleep who is to sleep by now."""
        options, states = self._fleet.options, self._fleet.states()
        idle_s = self._idleness.look(self._stats().models, now_s)
        awake = [model for model in options.models if states.get(model.name) == Status.READY]
        idle = [model.name for model in awake if model.ttl_s and idle_s.get(model.name, 0.0) >= model.ttl_s]
        for name in dict.fromkeys([*idle, *surplus(awake, options.groups)]):
            if now_s < self._again_s.get(name, now_s):
                continue
            try:
                await self._fleet.sleep(name, timeout_s=DRAIN_S)
            except Exception as error:  # it has gone meanwhile, or failed; or its unit has, or there is no memory for its weights
                _log.warning("%s is not put to sleep: %s", name, first_line(error))
                self._again_s[name] = now_s + _AGAIN_S
