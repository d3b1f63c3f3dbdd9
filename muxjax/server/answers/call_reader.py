"""Tool calls read out of a text as it comes."""

from collections.abc import Collection, Sequence

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.json_object import JsonObject
from muxjax.server.answers.parts import CallPiece, Piece
from muxjax.server.answers.pattern import Reading, beginning
from muxjax.server.answers.spoken import Spoken
from muxjax.server.answers.states import StateReader


class CallReader(StateReader):
    """Reader of text and calls.

    Args:
      shapes: in which calls may be written, all with the same trigger.
      names: functions that may be called; what would call another one is text.
      must_call: the answer is calls alone; what is no call of one that was cut short is nothing.
    """

    def __init__(self, shapes: Sequence[Shape], names: Collection[str], *, must_call: bool = False):
        super().__init__(self._start)
        self._shapes, self._names = shapes, names
        trigger = shapes[0].trigger
        self._trigger = trigger.text if trigger else ""
        self._spoken = Spoken(is_heard=not must_call)
        self._calls = 0
        self._shape, self._object = shapes[0], JsonObject()

    @property
    def has_called(self) -> bool:
        return self._calls > 0 and self._object.complete

    def end(self) -> list[Piece]:
        return [*self._read(True), *self._spoken.end(called=self._calls > 0)]

    def _start(self, last: bool) -> list[Piece] | None:
        """An answer may begin with a call that has no trigger."""
        begun = self._call([(shape, shape.bare_opening) for shape in self._shapes if shape.is_bare], self._held.lstrip(), last)
        if begun == []:
            self._state = self._text
        return begun

    def _text(self, last: bool) -> list[Piece] | None:
        """Up to the trigger, of which the end may be a beginning."""
        place = self._held.find(self._trigger) if self._trigger else -1
        if place >= 0:
            self._state = self._opening
            return self._spoken.add(self._take(place))
        kept = 0 if last else beginning(self._held, self._trigger)
        said = self._take(len(self._held) - kept)
        return self._spoken.add(said) if said else None

    def _opening(self, last: bool) -> list[Piece] | None:
        """The trigger, and then a call; or it is text after all."""
        begun = self._call([(shape, shape.opening) for shape in self._shapes], self._held, last)
        if begun == []:
            self._state = self._text
            return self._spoken.add(self._take(len(self._trigger)))
        return begun

    def _arguments(self, last: bool) -> list[Piece] | None:
        arguments = self._take(self._object.end(self._held))
        if self._object.complete:
            self._state = self._behind
        return [CallPiece(self._calls - 1, None, arguments)] if arguments else None

    def _behind(self, last: bool) -> list[Piece] | None:
        """Another call, or the end of the run."""
        begun = self._call([(self._shape, self._shape.again)] if self._shape.again else [], self._held, last)
        if begun != []:
            return begun
        closing = self._shape.closing
        end = closing.match(self._held)
        begins = end is None and closing.may_follow(self._held)
        if begins and not last:
            return None
        self._take(end.end() if end else len(self._held) if begins else 0)
        self._spoken.call()
        self._state = self._text
        return []

    def _call(self, openings: Sequence[tuple[Shape, Reading]], text: str, last: bool) -> list[Piece] | None:
        """The call that the text begins with; none where it begins with none, and None where that is not known yet."""
        waits = bool(openings) and not text
        for shape, opening in openings:
            match = opening.match(text)
            if match is None:
                waits = waits or opening.may_follow(text)
            elif match["name"] in self._names:
                arguments = shape.arguments.read(text[match.end() :])
                if arguments:
                    return self._begin(shape, match["name"], arguments)
                waits = waits or arguments is None
        return None if waits and not last else []

    def _begin(self, shape: Shape, name: str, arguments: str) -> list[Piece]:
        self._held, self._shape, self._object = arguments, shape, JsonObject()
        self._spoken.call()
        self._calls += 1
        self._state = self._arguments
        return [CallPiece(self._calls - 1, name, "")]

    def _take(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        return taken
