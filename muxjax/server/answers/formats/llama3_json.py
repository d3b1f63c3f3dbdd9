"""Calls of Llama 3: `{"name": "f", "parameters": {...}}` as all of an answer, or behind `<|python_tag|>`; several with semicolons."""

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import Mark, Slot

LLAMA3_JSON = Shape(
    trigger=Mark("<|python_tag|>"),
    is_bare=True,
    call=('{"name": "', Slot.NAME, '", "parameters": '),
    end=("}",),
    between=("; ",),
)
