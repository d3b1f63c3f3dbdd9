"""Drafts by a draft model: another model of the unit is asked how a text may go on, by a request like any other (docs/decisions/0035)."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from muxjax.engine.model.sequence import Sequence, Stage
from muxjax.engine.model.state import ModelState
from muxjax.types import Ints, Output, Request, Sampling


class Requests(Protocol):
    """What is asked of a `Unit`."""

    def submit(self, request: Request) -> list[Output]: ...
    def cancel(self, request_id: str, *, now_s: float) -> list[Output]: ...
    def waits(self, request_id: str) -> bool: ...


@dataclass(slots=True, eq=False)
class _Asked:
    """A request to a draft model, and what it has made.

    Args:
      state, sequence: for whom; at_s: since when that waits for it.
      was_seen: a policy could have admitted it.
    """

    state: ModelState
    sequence: Sequence
    at_s: float
    tokens: list[int] = field(default_factory=list[int])
    was_seen: bool = False


class DraftRequests:
    """Requests for drafts, which nobody but their unit knows of. A sequence that waits for its draft does not decode; it waits only as long
    as that is being made: a draft that the next plan has no place for is given up."""

    def __init__(self, requests: Requests):
        self._requests = requests
        self._asked: dict[str, _Asked] = {}

    def __bool__(self) -> bool:
        """Some are under way."""
        return bool(self._asked)

    def ask(self, state: ModelState, drafting: ModelState, now_s: float) -> None:
        """Asks a draft model for drafts behind all sequences of another one that could go on now."""
        if drafting.serves:
            state.await_drafts(partial(self._ask, state, drafting, now_s))

    def hear(self, outputs: list[Output]) -> list[Output]:
        """The outputs that are for clients; what the others say of drafts is taken in."""
        if not self._asked:
            return outputs
        theirs: list[Output] = []
        for output in outputs:
            asked = self._asked.get(output.request_id)
            if asked is None:
                theirs.append(output)
                if output.finish is not None and _id(output.request_id) in self._asked:  # nobody waits for it any more
                    self._requests.cancel(_id(output.request_id), now_s=output.at_s)
                continue
            if output.token is not None:
                asked.tokens.append(output.token)
            if output.finish is not None:
                del self._asked[output.request_id]
                asked.state.take_drafts(asked.sequence, asked.tokens, output.at_s - asked.at_s)
        return theirs

    def settle(self, now_s: float) -> None:
        """Before a policy looks: gives up what the last plan had no place for, and what was for a sequence that has been pre-empted."""
        for request_id, asked in list(self._asked.items()):
            is_wanted = asked.sequence.stage is Stage.DECODING
            if not is_wanted or (asked.was_seen and self._requests.waits(request_id)):
                self._requests.cancel(request_id, now_s=now_s)
            asked.was_seen = True

    def _ask(self, state: ModelState, drafting: ModelState, now_s: float, sequence: Sequence, text: Ints, most: int) -> bool:
        """Whether a draft of at most so many tokens is on its way."""
        if text.max() >= drafting.config.vocab:
            return False
        request = _request(sequence.request, drafting.config.name, text, most, now_s)
        if self._requests.submit(request):  # it is too long for that model, say
            return False
        self._asked[request.id] = _Asked(state, sequence, now_s)
        return True


def _id(request_id: str) -> str:
    """Of the request for a draft of another one's text."""
    return f"draft of {request_id}"


def _request(request: Request, model: str, text: Ints, most: int, now_s: float) -> Request:
    """For the next tokens of a request's text, drawn as its own are: by its seed, and so likely the same."""
    own = request.sampling
    drawn = {name: getattr(own, name) for name in ("temperature", "top_k", "top_p", "min_p", "seed")}
    return replace(
        request,
        id=_id(request.id),
        model=model,
        prompt=tuple(text.tolist()),
        sampling=Sampling(**drawn, max_tokens=most),
        arrival_s=now_s,
        begun=(),
        adapter=None,
    )
