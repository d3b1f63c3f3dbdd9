"""Calls as a grammar of ours demands them, which any model can be held to: `[{"name": "f", "parameters": {...}}, ...]`."""

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import Slot

JSON_LIST = Shape(
    is_bare=True, before=("[",), call=('{"name": "', Slot.NAME, '", "parameters": '), end=("}",), between=(", ",), after=("]",)
)
