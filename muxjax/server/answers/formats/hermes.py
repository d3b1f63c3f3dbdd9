"""Calls of Hermes and of Qwen: `<tool_call>{"name": "f", "arguments": {...}}</tool_call>`, each with marks of its own."""

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import Mark, Slot

HERMES = Shape(
    trigger=Mark("<tool_call>"),
    before=(Slot.GAP,),
    call=('{"name": "', Slot.NAME, '", "arguments": '),
    end=("}",),
    after=(Slot.GAP, Mark("</tool_call>")),
)
