"""Parsers of calls by name, and the one that a checkpoint's chat template was written for."""

from collections.abc import Callable

from muxjax.server.answers.formats.hermes import HERMES
from muxjax.server.answers.formats.llama3_json import LLAMA3_JSON
from muxjax.server.answers.formats.mistral import mistral
from muxjax.server.answers.formats.pythonic import PYTHONIC
from muxjax.server.answers.formats.shape import Shape

PARSERS: dict[str, Callable[[str], tuple[Shape, ...]]] = {
    "hermes": lambda _: (HERMES,),
    "llama3_json": lambda _: (LLAMA3_JSON,),
    "mistral": mistral,
    "pythonic": lambda _: (PYTHONIC,),
}
"""Shapes that are read, the one first that is written, from the chat template."""

_OTHERS = ("<function=", "<arg_key>")
"""Signs of other ways of writing within the marks of Hermes: Qwen3-Coder's and GLM's."""

_LLAMA = ("<|python_tag|>", '"parameters": dictionary')


def parser_of(template: str) -> str | None:
    """The parser's name; None for none that is known."""
    if "tool" not in template:
        return None
    if "func_name1(" in template:
        return "pythonic"
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<tool_call>" in template:
        return None if any(other in template for other in _OTHERS) else "hermes"
    return "llama3_json" if any(sign in template for sign in _LLAMA) else None
