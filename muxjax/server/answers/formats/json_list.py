"""Calls as a grammar of ours demands them, which any model can be held to: `[{"name": "f", "parameters": {...}}, ...]`."""

import re

from muxjax.server.answers.json_object import JsonObject
from muxjax.server.answers.lark import one_of
from muxjax.server.answers.parts import CallPiece, Piece
from muxjax.server.answers.tools import ToolUse
from muxjax.types import Grammar, GrammarKind

_HEAD = re.compile(r'\{"name": "([\w-]+)", "parameters": ')


def list_grammar(use: ToolUse) -> Grammar:
    """The list of calls, or of one where there may not be more; each schema is whole in it, so that the $refs of two cannot meet."""
    more = '(", " call)*' if use.many else ""
    calls = [f'call_{place}: {one_of([_head(tool.name)])} %json {tool.schema} "}}"' for place, tool in enumerate(use.callable)]
    kinds = " | ".join(f"call_{place}" for place in range(len(calls)))
    return Grammar(kind=GrammarKind.LARK, text="\n".join([f'start: "[" call {more} "]"', f"call: {kinds}", *calls]))


def _head(name: str) -> str:
    return f'{{"name": "{name}", "parameters": '


class JsonList:
    """Reader of such a list; there is nothing beside it."""

    def __init__(self):
        self._held = ""
        self._begun = 0
        self._open: JsonObject | None = None

    @property
    def has_called(self) -> bool:
        return self._begun > 0 and self._open is None

    def feed(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while piece := self._arguments() if self._open else self._call():
            pieces.append(piece)
        return pieces

    def end(self) -> list[Piece]:
        return []

    def _call(self) -> CallPiece | None:
        head = _HEAD.search(self._held)
        if head is None:
            return None
        self._held = self._held[head.end() :]
        self._open = JsonObject()
        self._begun += 1
        return CallPiece(self._begun - 1, head[1], "")

    def _arguments(self) -> CallPiece | None:
        assert self._open is not None
        end = self._open.end(self._held)
        arguments, self._held = self._held[:end], self._held[end:]
        if self._open.complete:
            self._open = None
        return CallPiece(self._begun - 1, None, arguments) if arguments else None
