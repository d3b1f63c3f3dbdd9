"""The call of a tool that the request names: the model writes its arguments, and nothing else."""

from muxjax.server.answers.json_object import JsonObject
from muxjax.server.answers.parts import CallPiece, Piece


class NamedCall:
    """All of the text is the arguments of one call."""

    def __init__(self, name: str):
        self._name: str | None = name
        self._object = JsonObject()

    def feed(self, text: str) -> list[Piece]:
        if not text:
            return []
        name, self._name = self._name, None
        self._object.end(text)
        return [CallPiece(0, name, text)]

    def end(self) -> list[Piece]:
        name, self._name = self._name, None
        return [CallPiece(0, name, "")] if name else []

    @property
    def has_called(self) -> bool:
        return self._object.complete
