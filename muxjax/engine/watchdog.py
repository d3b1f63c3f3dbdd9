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
        self._told = False  # that it is stuck
        self._telling = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="muxjax-watchdog", daemon=True)

    @property
    def stuck(self) -> bool:
        return self._age_s() > self._limit_s

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch, having told what it would have told: others may have seen first that the device is stuck, and end the process."""
        self._over.set()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._limit_s / 4)):
            self._look()

    def _look(self) -> None:
        with self._telling:
            stuck = self.stuck
            if stuck and not self._told:
                _log.error(
                    "%s has been in flight for %.0f s, longer than the limit of %g s: the device is stuck",
                    self._what(),
                    self._age_s(),
                    self._limit_s,
                )
            elif self._told and not stuck:
                _log.warning("the device goes on")
            self._told = stuck
