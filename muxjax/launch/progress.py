"""How far a start is: bars for who looks on, words for who asks."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who follows a start.

    Args:
      bars: are drawn.
      doing: is told what is done from now on.
    """

    bars: bool = True
    doing: Callable[[str], Any] = lambda what: None

    @contextlib.contextmanager
    def counted(self, what: str, unit: str, total: int) -> Iterator[Callable[[], None]]:
        """Follows so many things that are done in the block; what it gives is called after each."""
        done = 0
        with tqdm(total=total, unit=unit, desc=what, disable=not self.bars) as bar:

            def one_more() -> None:
                nonlocal done
                done += 1
                bar.update()
                self.doing(f"{what}: {done} of {total}")

            self.doing(f"{what}: 0 of {total}")
            yield one_more
