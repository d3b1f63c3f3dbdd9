"""Calls of Mistral's models, behind `[TOOL_CALLS]`: a list of objects, or in newer ones name and arguments with marks of their own."""

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import Mark, Slot

_TRIGGER = Mark("[TOOL_CALLS]")
LIST = Shape(
    trigger=_TRIGGER,
    before=(Slot.GAP, "["),
    call=('{"name": "', Slot.NAME, '", "arguments": '),
    end=("}",),
    between=(", ",),
    after=("]",),
)
ARGUMENTS = Shape(trigger=_TRIGGER, call=(Slot.GAP, Slot.NAME, Mark("[ARGS]")))
WITH_ID = Shape(trigger=_TRIGGER, call=(Slot.GAP, Slot.NAME, Mark("[CALL_ID]"), Slot.ID, Mark("[ARGS]")))


def mistral(template: str) -> tuple[Shape, ...]:
    """All that are read, the one first that a model with this template writes."""
    written = WITH_ID if "[CALL_ID]" in template else ARGUMENTS if "[ARGS]" in template else LIST
    return (written, *(shape for shape in (LIST, ARGUMENTS, WITH_ID) if shape is not written))
