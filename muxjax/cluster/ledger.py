"""The requests that a front has taken and not ended, each with what it has been told so far, wherever it is computed."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from muxjax.cluster.remote_unit import RemoteUnit
from muxjax.types import Output, Request


@dataclass(slots=True, eq=False)
class Entry:
    """A request on its way.

    Args:
      tokens: of its answer, as far as they have been told.
      unit: that computes it; None while it waits for one. charged_tokens: of what that one has to do for it.
      losses: units that were lost while they had it. moved: more than one unit has had it.
      refusals: units that have given it up since its last token.
      cancelled: nobody wants the rest.
    """

    request: Request
    tokens: list[int] = field(default_factory=list)
    unit: RemoteUnit | None = None
    charged_tokens: int = 0
    losses: int = 0
    refusals: int = 0
    moved: bool = False
    cancelled: bool = False

    @property
    def onward(self) -> Request:
        """The request for whoever goes on with it: its next token is the one that would have come."""
        return replace(self.request, begun=tuple(self.tokens)) if self.tokens else self.request

    def enter(self, unit: RemoteUnit) -> None:
        """The unit computes it from now on: its prompt, what was told already, and if need be all that it may."""
        self.unit = unit
        unit.routed += 1
        self._charge(self.request.most_tokens)

    def take(self, output: Output) -> Output:
        """Takes in an output; what belongs to the first one alone is not told twice."""
        if self.moved and self.tokens:
            output = output._replace(prompt_logprobs=None, cached_tokens=0)
        if output.token is not None:
            self.tokens.append(output.token)
            self.refusals = 0
            self._charge(self.request.sampling.max_tokens - len(self.tokens))
        return output

    def leave(self) -> None:
        """No unit computes it."""
        self._charge(0)
        self.unit = None

    def _charge(self, tokens: int) -> None:
        if self.unit is not None:
            self.unit.outstanding_tokens += tokens - self.charged_tokens
        self.charged_tokens = tokens


class Ledger:
    """All entries by the id of their request."""

    def __init__(self):
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    def add(self, request: Request) -> Entry:
        entry = self._entries[request.id] = Entry(request)
        return entry

    def find(self, request_id: str) -> Entry | None:
        return self._entries.get(request_id)

    def end(self, entry: Entry) -> None:
        del self._entries[entry.request.id]

    def of(self, unit: RemoteUnit | None) -> list[Entry]:
        """Those that the unit computes; of None, those that wait for one."""
        return [entry for entry in self._entries.values() if entry.unit is unit]
