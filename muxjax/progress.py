"""How far something long is: bars for who looks on, lines for a log, words for who asks."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from muxjax.units import show_bytes

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
    def counted(self, what: str, unit: str, total: int | None, *, begun: int = 0, leave: bool = True) -> Iterator[Callable[..., None]]:
        """Follows so many things that are done in the block; what it gives is called after each, or with how many there were, and with a
        note on how it goes.

        Args:
          unit: "B" for bytes.
          total: None where nobody knows; then no line tells of the beginning.
          begun: were done before.
          leave: the bar stays when it is full.
        """
        done, said_s = begun, time.monotonic()
        if not self.draws and total is not None:
            self.told(_how_far(what, unit, done, total) if begun else f"{what}: {_shown(total, unit)}")
        scale = unit == "B"
        with tqdm(total=total, initial=begun, unit=unit, unit_scale=scale, desc=what, leave=leave, disable=not self.draws) as bar:

            def more(count: int = 1, note: str = "") -> None:
                nonlocal done, said_s
                done += count
                bar.set_postfix_str(note, refresh=False)
                bar.update(count)
                self.doing(_how_far(what, unit, done, total, note))
                if not self.draws and time.monotonic() - said_s >= SAY_S:
                    said_s = time.monotonic()
                    self.told(_how_far(what, unit, done, total, note))

            self.doing(_how_far(what, unit, done, total))
            yield more


@contextlib.contextmanager
def followed(what: str, unit: str, total: int | None, *, begun: int = 0, leave: bool = False) -> Iterator[Callable[..., None]]:
    """Of a command, as `Progress.counted`: a bar or lines on standard error."""
    with Progress(told=_to_stderr).counted(what, unit, total, begun=begun, leave=leave) as more:
        yield more


def _how_far(what: str, unit: str, done: int, total: int | None, note: str = "") -> str:
    of = f"{done}{unit}" if total is None else f"{_shown(done, unit)} of {_shown(total, unit)}"
    return f"{what}: {of}" + (f", {note}" if note else "")


def _shown(count: int, unit: str) -> str:
    return show_bytes(count) if unit == "B" else str(count)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
