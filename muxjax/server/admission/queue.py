"""The queue of a model: requests that wait for a first token, and how fast that goes."""

from collections import Counter

from muxjax.server.admission.throughput import Throughput
from muxjax.types import Request

STEP_ROWS = 32
"""Requests of which more wait than one step takes, however short they are."""


class Queue:
    """Requests of one model between admission and first token, by line; and those that have had it.

    Args:
      step_tokens: prompt tokens of which more wait than one step takes.
    """

    def __init__(self, step_tokens: int):
        self._step_tokens = step_tokens
        self._waiting: dict[str, dict[str, Request]] = {}
        self._tokens: Counter[str] = Counter()
        self._at_s = 0.0
        self.left = Throughput()
        """Prompt tokens that left it while more than a step's work waited."""
        self.begun = Throughput()
        """Requests that left it so."""
        self.pace = Throughput()
        """Tokens after the first, over the seconds that they took."""
        self.running = 0

    def requests(self, line: str | None = None) -> int:
        """Waiting ones, of one line or of all."""
        return sum(map(len, self._waiting.values())) if line is None else len(self._waiting.get(line, ()))

    def tokens(self, line: str | None = None) -> int:
        """Prompt tokens of the waiting ones, of one line or of all."""
        return self._tokens.total() if line is None else self._tokens[line]

    def ahead_tokens(self, request: Request) -> int:
        """Tokens that are certainly computed before it: of its line, all that is due before it."""
        own = self._waiting.get(request.line, {}).values()
        return sum(len(other.prompt) for other in own if other.due_s <= request.due_s)

    def is_backlog(self, requests: int, tokens: int) -> bool:
        """More than one step takes, so that what leaves meanwhile shows how much can."""
        return requests > STEP_ROWS or tokens > self._step_tokens

    def enter(self, request: Request, at_s: float) -> None:
        self._pass(at_s)
        self._waiting.setdefault(request.line, {})[request.id] = request
        self._tokens[request.line] += len(request.prompt)

    def begin(self, request: Request, at_s: float) -> None:
        """Takes a request out whose first token has come."""
        self._pass(at_s, len(request.prompt), 1)
        self.give_up(request)
        self.running += 1

    def give_up(self, request: Request) -> None:
        """Takes a request out that waits no more."""
        del self._waiting[request.line][request.id]
        self._tokens[request.line] -= len(request.prompt)

    def _pass(self, at_s: float, tokens: int = 0, requests: int = 0) -> None:
        seconds, self._at_s = max(0.0, at_s - self._at_s), max(at_s, self._at_s)
        if self.is_backlog(self.requests(), self.tokens()):
            self.left.add(at_s, seconds, tokens)
            self.begun.add(at_s, seconds, requests)
