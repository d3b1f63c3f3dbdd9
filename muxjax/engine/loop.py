"""The turn of a unit, and how turns follow each other."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from muxjax.engine.executor import Executor
from muxjax.engine.unit import Unit
from muxjax.scheduler.view import Policy
from muxjax.types import Output, Request


class Clock(Protocol):
    """Seconds since some fixed moment."""

    def now_s(self) -> float: ...


class VirtualClock(Clock, Protocol):
    """A clock that stands still unless it is moved."""

    def advance_to(self, at_s: float) -> None: ...


def turn(unit: Unit, policy: Policy, executor: Executor, clock: Clock) -> list[Output]:
    """Launches what the policy wants next, and takes in what has finished.

    It waits for a step when there was nothing to launch, or nothing can be any more: then only a finished step, or a new request, can
    change what the policy wants. Whoever brings the request wakes the executor.
    """
    plan = policy(unit.view(clock.now_s()))
    for step in unit.commit(plan, now_s=clock.now_s()):
        executor.launch(step)
    done = executor.collect(wait=not plan.jobs or not unit.can_launch)
    may_change = unit.oldest_step or unit.drafting
    assert plan.jobs or plan.preempt or may_change, "the policy plans nothing, and nothing in flight can change its mind"
    return unit.record(done)


def replay(unit: Unit, policy: Policy, executor: Executor, clock: VirtualClock, requests: Iterable[Request]) -> Iterator[list[Output]]:
    """Runs requests, sorted by arrival, to their end in virtual time; yields the outputs of each turn."""
    arrivals = iter(requests)
    upcoming = next(arrivals, None)
    while upcoming is not None or not unit.idle:
        if unit.idle and upcoming is not None:
            clock.advance_to(upcoming.arrival_s)
        while upcoming is not None and upcoming.arrival_s <= clock.now_s():
            if refusal := unit.submit(upcoming):
                yield refusal
            upcoming = next(arrivals, None)
        yield turn(unit, policy, executor, clock)
