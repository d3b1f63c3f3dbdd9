"""What the baselines' engines share: requests, and the one way to drive an engine, from a server or from a script."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(eq=False, slots=True)
class Request:
    """Tokens to go on from, greedily.

    Args:
      max_tokens: of the answer, at least 1.
      stop: tokens that end an answer sooner; they are part of it.
    """

    prompt: Sequence[int]
    max_tokens: int
    stop: frozenset[int] = frozenset()


class Made(NamedTuple):
    """A token of a request's answer, and whether it is the last."""

    request: Request
    token: int
    last: bool


class Engine(Protocol):
    """One model. All calls come from one thread."""

    max_len: int
    """Most tokens of prompt and answer together."""

    @property
    def busy(self) -> bool:
        """Whether a request is unfinished."""
        ...

    def submit(self, request: Request) -> None:
        """Queues a request that `check` has let pass."""
        ...

    def cancel(self, request: Request) -> None:
        """The request makes no more tokens; nothing if it has ended."""
        ...

    def step(self) -> list[Made]:
        """Goes on until there are tokens, or a step has been launched, and returns those that have come, oldest first."""
        ...

    def close(self) -> None:
        """Gives back what the engine holds beside memory."""
        ...


def check(engine: Engine, request: Request) -> None:
    """
    Raises:
      ValueError: the engine could never answer the request.
    """
    if not request.prompt or request.max_tokens < 1:
        raise ValueError(f"a prompt and an answer need a token each, got {len(request.prompt)} and {request.max_tokens}")
    if len(request.prompt) + request.max_tokens > engine.max_len:
        raise ValueError(f"{len(request.prompt)} tokens and {request.max_tokens} of an answer are over max_model_len={engine.max_len}")
