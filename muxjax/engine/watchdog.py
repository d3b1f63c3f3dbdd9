"""A look, from a thread of its own, at whether the device still gets on."""

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Watchdog:
    """Says in the log when the oldest step in flight has become too old, and when it is over.

    Args:
      age_s: of that step, 0 while there is none; what: which it is.
      limit_s: from which age on it is stuck.
    """

    def __init__(self, age_s: Callable[[], float], what: Callable[[], str], limit_s: float):
        self._age_s, self._what, self._limit_s = age_s, what, limit_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="muxjax-watchdog", daemon=True)

    @property
    def stuck(self) -> bool:
        return self._age_s() > self._limit_s

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        was_stuck = False
        while not self._over.wait(min(1.0, self._limit_s / 4)):
            stuck = self.stuck
            if stuck and not was_stuck:
                _log.error(
                    "%s has been in flight for %.0f s, longer than the limit of %g s: the device is stuck",
                    self._what(),
                    self._age_s(),
                    self._limit_s,
                )
            elif was_stuck and not stuck:
                _log.warning("the device goes on")
            was_stuck = stuck
