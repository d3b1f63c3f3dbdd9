"""Sandbox for chat templates of checkpoints, which are programs of strangers: no access to Python, and bounds on what they spend."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

import jinja2
from jinja2 import nodes, pass_environment
from jinja2.filters import make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from muxjax.server.text.limits import (
    bounded_filter,
    bounded_items,
    require_bounded,
    require_bounded_format,
    require_showable,
    require_small,
    require_small_number,
)

RENDER_S = 5.0


class OutOfTime(jinja2.TemplateError):
    """The template takes too long."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Renders within RENDER_S, up to MOST_CHARACTERS, or fails with a TemplateError.

    The time is looked at in every round of a loop and every call of a macro, filter or method. Each of these is small enough itself, so
    that nothing can go on for long.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any):
        super().__init__(finalize=require_showable, **options)
        self._limit = threading.local()
        self.filters["join"] = _join
        self.globals.pop("lipsum")  # words at random, as many as are asked for

    def bound_filters(self) -> None:
        """To be called once all filters are there."""
        self.filters = {name: bounded_filter(name, function, self.tick) for name, function in self.filters.items()}

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
            require_small(size)
        return "".join(parts)

    def tick(self) -> str:
        """Raises OutOfTime. Templates call it without knowing."""
        if time.monotonic() > getattr(self._limit, "until_s", float("inf")):  # not yet set while a template is compiled
            raise OutOfTime(f"the chat template takes longer than {RENDER_S:g} seconds")
        return ""

    def concatenate(self, *values: object) -> str:
        """What `~` makes of its operands."""
        return "".join(map(str, bounded_items("", values)))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A method of a text is looked at before it makes too much of it."""
        __self.tick()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "join" and args:
            args = (bounded_items(owner, args[0]), *args[1:])
        elif isinstance(owner, str):
            require_bounded(name, owner, (*args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """A text's `format`, which must not make a field too wide."""
        wrapped = super().wrap_str_format(value)

        def bounded(*args: Any, **kwargs: Any) -> str:
            assert wrapped is not None
            require_bounded_format(value.__self__, (*args, *kwargs.values()))
            return wrapped(*args, **kwargs)

        return bounded if wrapped else None

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Raises TemplateError: a sum, product or power that is too large a text, list or number."""
        if operator == "%" and isinstance(left, str):
            require_bounded_format(left, right if isinstance(right, tuple) else (right,))
        elif isinstance(left, int) and isinstance(right, int):
            require_small_number(_bits(operator, left, right))
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            require_small(len(left) + len(right))
        elif operator == "*":
            for whole, times in ((left, right), (right, left)):
                if isinstance(whole, Sized) and isinstance(times, int):
                    require_small(len(whole) * times)
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            block.body.insert(0, nodes.ExprStmt(self._own("tick")).set_lineno(block.lineno).set_environment(self))
            if isinstance(block, nodes.For) and block.test is not None:  # of rounds that are left out, too
                block.test = nodes.Or(self._own("tick"), block.test).set_lineno(block.lineno).set_environment(self)
        return _Concatenations(self._own).visit(tree)

    def _own(self, method: str, *operands: nodes.Expr) -> nodes.Call:
        return nodes.Call(nodes.EnvironmentAttribute(method), list(operands), [], None, None)


class _Concatenations(NodeTransformer):
    """Every `~` becomes a call."""

    def __init__(self, own: Callable[..., nodes.Call]):
        self._own = own

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        call = self._own("concatenate", *node.nodes).set_lineno(node.lineno)
        return call.set_environment(node.environment) if node.environment else call


def _bits(operator: str, left: int, right: int) -> int:
    """Of the result, at most."""
    sizes = left.bit_length(), right.bit_length()
    return {"*": sum(sizes), "**": sizes[0] * max(right, 0)}.get(operator, max(sizes) + 1)


@pass_environment
def _join(environment: jinja2.Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's filter, which looks at the size first."""
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return str(d).join(map(str, bounded_items(str(d), items)))
