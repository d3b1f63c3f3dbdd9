"""Steps of one model that wait for a launch to succeed: what fails for a reason that passes is tried again."""

from collections import deque
from collections.abc import Callable

from muxjax.engine.executor import Step

GIVE_UP_S = 10.0
"""A launch that fails for so long will not succeed."""

_PASSING = (OSError, RuntimeError, MemoryError)
"""What passes: too many open files, no memory for a moment. JAX's errors are RuntimeErrors. Any other is a defect, and comes again."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.25


def passes(error: Exception) -> bool:
    """Whether the same launch may succeed later."""
    return isinstance(error, _PASSING)


def pause_s(tries: int) -> float:
    """Seconds until the next try, after so many: twice as long each time, and never so long that others would notice."""
    return min(_FIRST_PAUSE_S * 2 ** min(tries - 1, 10), _LONGEST_PAUSE_S)


class LaunchQueue:
    """Steps in the order of their launch. Those behind one that cannot be launched yet wait for it."""

    def __init__(self, clock: Callable[[], float]):
        self.steps: deque[Step] = deque()
        self.due_s = 0.0
        self.tries = 0  # of the first step
        self._since_s = 0.0
        self._clock = clock

    @property
    def is_due(self) -> bool:
        """Its first step may be tried now."""
        return bool(self.steps) and self._clock() >= self.due_s

    def launched(self) -> Step:
        """Takes the first step off, which is on its way."""
        self.tries, self.due_s = 0, 0.0
        return self.steps.popleft()

    def failed(self, error: Exception) -> bool:
        """The first step could not be launched: whether it is to be tried again, when it is due."""
        now_s = self._clock()
        if not self.tries:
            self._since_s = now_s
        self.tries += 1
        self.due_s = now_s + pause_s(self.tries)
        return passes(error) and now_s - self._since_s < GIVE_UP_S
