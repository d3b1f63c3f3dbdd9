"""The pace of compiling beside steps: it pauses where steps take much longer for it."""

import contextlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

from muxjax.engine.device_control import DeviceControl
from muxjax.engine.job_records import JobRecord

_log = logging.getLogger(__name__)

MOST_SLOWDOWN = 1.3
FEWEST = 100
"""Steps that a 99th percentile is taken of."""
LEARN_S, FIRST_REST_S, MOST_REST_S = 2.0, 5.0, 60.0
_FEWEST_OF_KIND = 5
_KEPT = 500
_LOOK_S = 0.5


class StepKind(NamedTuple):
    """Steps that take about as long as each other: of one model and phase, and of about as many tokens."""

    model: str
    phase: str
    size: int


StepTimes = Mapping[StepKind, Sequence[float]]
"""Seconds of the last steps of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What compiling does.

    Args:
      paused_until_s: None where it goes on.
      rest_s: how long the next pause will be; pauses get longer as long as each is followed by slow steps.
    """

    paused_until_s: float | None = None
    rest_s: float = FIRST_REST_S


def slowdown(alone: StepTimes, beside: StepTimes) -> float | None:
    """p99 of steps beside compiling over that of steps alone, each step in times of its kind's median alone; None if too few are known."""
    medians = {kind: median(times) for kind, times in alone.items() if len(times) >= _FEWEST_OF_KIND and kind in beside}
    with_, without = ([time / medians[kind] for kind in medians for time in times[kind]] for times in (beside, alone))
    if min(len(with_), len(without)) < FEWEST:
        return None
    return float(np.percentile(with_, 99) / np.percentile(without, 99))


def next_pace(pace: Pace, alone: StepTimes, beside: StepTimes, now_s: float) -> Pace:
    """The pace from now on. Steps without compiling are learnt in a pause, if there are so many with it that they matter."""
    if pace.paused_until_s is not None:
        return pace if now_s < pace.paused_until_s else replace(pace, paused_until_s=None)
    if sum(map(len, beside.values())) < FEWEST:
        return pace
    ratio = slowdown(alone, beside)
    if ratio is None:
        return replace(pace, paused_until_s=now_s + LEARN_S)
    if ratio > MOST_SLOWDOWN:
        return Pace(paused_until_s=now_s + pace.rest_s, rest_s=min(2 * pace.rest_s, MOST_REST_S))
    return Pace()


class BuildPacer:
    """Watches steps, and pauses what is built beside them."""

    def __init__(self, devices: DeviceControl):
        self._devices = devices
        self._lock = threading.Lock()
        self._alone, self._beside = _no_times(), _no_times()
        self._building = False
        self._changed_s = 0.0  # when building began, paused or ended

    def note(self, record: JobRecord) -> None:
        """Takes a step's time, unless compiling began or paused meanwhile; in the engine's thread."""
        with self._lock:
            if record.start_s >= self._changed_s:
                times = self._beside if self._building else self._alone
                times[StepKind(record.model, record.phase, record.tokens.bit_length())].append(record.end_s - record.start_s)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block something is built, which pauses where it disturbs."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="muxjax-pacer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        pace = Pace()
        self._turn(building=True)
        while not over.wait(_LOOK_S):
            with self._lock:
                alone, beside = ({kind: tuple(times) for kind, times in each.items()} for each in (self._alone, self._beside))
            after = next_pace(pace, alone, beside, time.monotonic())
            if after.paused_until_s and not pace.paused_until_s:
                self._devices.pause_building()
                self._turn(building=False)
                _log.info("compiling pauses; steps beside it took %.2f times as long", slowdown(alone, beside) or 1)
            elif pace.paused_until_s and not after.paused_until_s:
                self._turn(building=True)
                self._devices.resume_building()
            pace = after
        self._devices.resume_building()
        self._turn(building=False)

    def _turn(self, *, building: bool) -> None:
        with self._lock:
            self._building, self._changed_s = building, time.monotonic()
            if building:
                self._beside = _no_times()


def _no_times() -> defaultdict[StepKind, deque[float]]:
    return defaultdict(lambda: deque(maxlen=_KEPT))
