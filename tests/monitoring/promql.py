"""A parser of PromQL, as far as dashboards and rules use it: which metrics and labels does an expression read?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<range>\[(?:\d+[smhdw]|\$__rate_interval)\])|(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
    |(?P<name>[a-zA-Z_:][\w:]*)|(?P<match>=~|!~|!=|==|<=|>=)|(?P<sign>[-+*/%^(){},=<>]))""",
    re.VERBOSE,
)
_AGGREGATIONS = {"sum", "min", "max", "avg", "count", "topk", "quantile"}
_OF_RANGES = {"rate", "increase", "delta", "min_over_time", "max_over_time", "avg_over_time"}
_OF_VALUES = {"histogram_quantile", "clamp_max", "clamp_min", "abs", "label_values"}
_BINARY = ({"or"}, {"and", "unless"}, {"==", "!=", "<", ">", "<=", ">="}, {"+", "-"}, {"*", "/", "%"}, {"^"})


@dataclass(frozen=True, slots=True)
class Read:
    """A metric, and the labels that are asked of it."""

    metric: str
    labels: frozenset[str]


def reads(expression: str) -> list[Read]:
    """What an expression reads.

    Raises:
      ValueError: it is none.
    """
    parser = _Parser(list(_tokens(expression)))
    found = parser.binary(0)
    if parser.peek():
        raise ValueError(f"{parser.peek()!r} after the end of {expression!r}")
    return found


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at, text = 0, expression.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at : at + 20]!r} in {expression!r}")
        yield match.lastgroup or "", match[match.lastgroup or 0]
        at = match.end()


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]):
        self._tokens, self._at = tokens, 0

    def peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def binary(self, level: int) -> list[Read]:
        if level == len(_BINARY):
            return self._one()
        found = self.binary(level + 1)
        while self.peek() in _BINARY[level]:
            self._take()
            found = found + self.binary(level + 1)
        return found

    def _one(self) -> list[Read]:
        kind, text = self._take()
        if kind == "number":
            return []
        if text == "-":
            return self._one()
        if text == "(":
            return self._until_closed()
        if kind != "name":
            raise ValueError(f"{text!r} where a value is expected")
        if text in _AGGREGATIONS:
            return self._aggregation()
        if self.peek() != "(":
            return [self._selector(text)]
        return self._call(text)

    def _aggregation(self) -> list[Read]:
        labels: frozenset[str] = frozenset()
        if self.peek() in ("by", "without"):
            self._take()
            labels = frozenset(self._list("(", ")"))
        self._expect("(")
        return [Read(read.metric, read.labels | labels) for read in self._arguments()]

    def _call(self, function: str) -> list[Read]:
        if function not in _OF_RANGES | _OF_VALUES:
            raise ValueError(f"no such function: {function}")
        self._expect("(")
        begin = self._at
        found = self._arguments()
        ranged = any(kind == "range" for kind, _ in self._tokens[begin : self._at])
        if (function in _OF_RANGES) != ranged and function in _OF_RANGES:
            raise ValueError(f"{function} wants a range, such as [5m]")
        return found

    def _arguments(self) -> list[Read]:
        found = self.binary(0)
        while self.peek() == ",":
            self._take()
            found = found + self.binary(0)
        self._expect(")")
        return found

    def _until_closed(self) -> list[Read]:
        found = self.binary(0)
        self._expect(")")
        return found

    def _selector(self, metric: str) -> Read:
        labels = set()
        if self.peek() == "{":
            self._take()
            while self.peek() != "}":
                labels.add(self._take()[1])
                if self._take()[1] not in ("=", "!=", "=~", "!~") or self._take()[0] != "string":
                    raise ValueError(f"a matcher of {metric} is none")
                if self.peek() == ",":
                    self._take()
            self._take()
        if self.peek().startswith("["):
            self._take()
        return Read(metric, frozenset(labels))

    def _list(self, begin: str, end: str) -> list[str]:
        self._expect(begin)
        names = []
        while self.peek() != end:
            names.append(self._take()[1])
            if self.peek() == ",":
                self._take()
        self._take()
        return names

    def _expect(self, text: str) -> None:
        found = self._take()[1]
        if found != text:
            raise ValueError(f"{found!r} where {text!r} is expected")

    def _take(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise ValueError("the expression ends too early")
        self._at += 1
        return self._tokens[self._at - 1]
