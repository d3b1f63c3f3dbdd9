"""How far something long is: bars for who looks on, lines for a log, words for who asks."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

SAY_S = 5.0
"""After which a line says how far a phase is that has no bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who follows it.

    Args:
      bars: are drawn, where somebody looks at a terminal.
      told: is told each phase as it begins, of those that have no bar.
      doing: is told what is done from now on, step by step.
    """

    bars: bool = True
    told: Callable[[str], Any] = lambda phase: None
    doing: Callable[[str], Any] = lambda what: None

    @property
    def draws(self) -> bool:
        """Bars are drawn, not lines told."""
        return self.bars and sys.stderr.isatty()

    def phase(self, what: str) -> None:
        """That is what is done from now on, until the next one."""
        self.told(what)
        self.doing(what)

    @contextlib.contextmanager
    def counted(self, what: str, unit: str, total: int, *, leave: bool = True) -> Iterator[Callable[..., None]]:
        """Follows so many things that are done in the block; what it gives is called after each, or with how many there were.

        Args:
          leave: the bar stays when it is full.
        """
        done, said_s = 0, time.monotonic()
        if not self.draws:
            self.told(f"{what}: {total}")
        with tqdm(total=total, unit=unit, desc=what, leave=leave, disable=not self.draws) as bar:

            def more(count: int = 1) -> None:
                nonlocal done, said_s
                done += count
                bar.update(count)
                self.doing(f"{what}: {done} of {total}")
                if not self.draws and time.monotonic() - said_s >= SAY_S:
                    said_s = time.monotonic()
                    self.told(f"{what}: {done} of {total}")

            self.doing(f"{what}: 0 of {total}")
            yield more


@contextlib.contextmanager
def followed(what: str, unit: str, total: int, *, leave: bool = False) -> Iterator[Callable[..., None]]:
    """Of a command, as `Progress.counted`: a bar or lines on standard error."""
    with Progress(told=_to_stderr).counted(what, unit, total, leave=leave) as more:
        yield more


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
