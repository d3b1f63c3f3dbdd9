"""Many answers growing at once in a terminal: one line each, rewritten in place; elsewhere a line when its answer is whole."""

import shutil
import sys
from dataclasses import dataclass
from typing import TextIO

from muxjax.demo.items import Item, is_right


@dataclass(slots=True, kw_only=True)
class Row:
    """One question on its way to an answer; `model` is the one that is asked, `first_s` when its first text came."""

    model: str
    item: Item
    answer: str = ""
    first_s: float | None = None
    ended_s: float | None = None

    @property
    def right(self) -> bool:
        return is_right(self.item, self.answer)

    def line(self, width: int) -> str:
        """Model, verdict, question, answer; the verdict early, since a narrow terminal cuts the end."""
        verdict = "" if self.ended_s is None else "right" if self.right else "WRONG"
        expected = f"  (expected: {self.item.answer})" if verdict == "WRONG" else ""
        question = self.item.messages[-1]["content"].split(". ")[-1]
        return f"  {self.model:<8}{verdict:<7}{question}  {self.answer}{expected}"[:width]


class Board:
    """Rows on a stream.

    Args:
      live: rewrite lines in place, which only a terminal can show; None asks the stream.
    """

    def __init__(self, rows: list[Row], out: TextIO = sys.stdout, live: bool | None = None):
        self._rows = rows
        self._out = out
        self._live = out.isatty() if live is None else live
        if self._live:
            self._out.write("\n" * len(rows))

    def show(self, row: Row) -> None:
        """State of the row."""
        width = shutil.get_terminal_size().columns if self._live else 1000
        if self._live:
            up = len(self._rows) - next(index for index, other in enumerate(self._rows) if other is row)
            self._out.write(f"\033[{up}A\r\033[2K{row.line(width)}\033[{up}B\r")
        elif row.ended_s is not None:
            self._out.write(row.line(width) + "\n")
        self._out.flush()
