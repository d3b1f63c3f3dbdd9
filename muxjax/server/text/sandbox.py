"""Sandbox for chat templates of checkpoints, which are programs of strangers: no access to Python, and bounds on what they spend."""

import threading
import time
from collections.abc import Mapping, Sized

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

RENDER_S = 5.0
MOST_CHARACTERS = 64 * 2**20
_REPEATS = frozenset({"*", "**"})


class Sandbox(ImmutableSandboxedEnvironment):
    """Renders within RENDER_S, up to MOST_CHARACTERS, or fails with a TemplateError.

    The time is looked at in every round of a loop and every call of a macro, so that nothing else can go on for long.
    """

    intercepted_binops = _REPEATS

    def __init__(self, **options):
        super().__init__(**options)
        self._limit = threading.local()

    def render(self, template: jinja2.Template, variables: Mapping[str, object]) -> str:
        """The template's text.

        Raises:
          TemplateError: it took too long or became too large; and what else a template may raise.
        """
        self._limit.until_s = time.monotonic() + RENDER_S
        parts, size = [], 0
        for part in template.generate(variables):
            parts.append(part)
            size += len(part)
            _require_small(size)
        return "".join(parts)

    def tick(self) -> str:
        """Raises TemplateError: the time is over. Templates call it without knowing."""
        if time.monotonic() > self._limit.until_s:
            raise jinja2.TemplateError(f"the chat template takes longer than {RENDER_S:g} seconds")
        return ""

    def call_binop(self, context, operator: str, left, right):
        """Raises TemplateError: a product that is too large a text, list or number."""
        if operator == "*":
            for whole, times in ((left, right), (right, left)):
                if isinstance(whole, Sized) and isinstance(times, int):
                    _require_small(len(whole) * times)
        elif isinstance(left, int) and isinstance(right, int):
            _require_small(left.bit_length() * right)
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            call = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
            block.body.insert(0, nodes.ExprStmt(call).set_lineno(block.lineno).set_environment(self))
        return tree


def _require_small(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise jinja2.TemplateError(f"the chat template makes more than {MOST_CHARACTERS} characters")
