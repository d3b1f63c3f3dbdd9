"""Work and sizes of a chat template's filters and methods, looked at before each call: nothing can stop one later."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

import jinja2

MOST_CHARACTERS = 64 * 2**20
"""Of any text or list that a template makes."""
MOST_SLOW = 2**17
"""Characters or items of a filter or method that spends a microsecond or more on each."""
_CHEAP = frozenset("abs attr count d default first float int items last length reverse round safe".split())
"""Filters that hardly look at what they get."""
_TEXTUAL = frozenset("capitalize center e escape forceescape format indent lower replace string tojson trim truncate upper".split())
"""Filters that make a text of anything and read it once, at the speed of C."""
_DEEP = frozenset("pprint striptags title urlencode urlize wordcount wordwrap xmlattr".split())
"""Filters that read all texts in a value, slowly; the others look at its items alone."""
_ITEM_CHARACTERS = 64
"""An item's share of the work and text, at least, however little is in it."""
_LARGE_NUMBER = 10**6
_REPEATED_FIELD = re.compile(r"\{[^{}]*\{|%[^a-zA-Z%]*\*")
_WIDE_FIELD = re.compile(r"\d{7}")


def require_small(size: int) -> None:
    """Raises TemplateError: so many characters or items are too many."""
    if size > MOST_CHARACTERS:
        raise jinja2.TemplateError(f"the chat template makes more than {MOST_CHARACTERS} characters")


def require_small_number(bits: int) -> None:
    """Raises TemplateError: a whole number would have too many bits."""
    if bits > MOST_SLOW:
        raise jinja2.TemplateError(f"the chat template makes a number of more than {MOST_SLOW} bits")


def bounded_filter(name: str, function: Callable[..., Any], tick: Callable[[], object]) -> Callable[..., Any]:
    """The filter, which fails with a TemplateError before it spends too much.

    Args:
      tick: raises where the time is over.
    """
    place = 1 if hasattr(function, "jinja_pass_arg") else 0  # behind what jinja itself passes: its context or environment

    @functools.wraps(function)  # jinja reads in its attributes what to pass
    def bounded(*args: Any, **kwargs: Any) -> Any:
        tick()
        value, others = args[place], (*args[place + 1 :], *kwargs.values())
        if name in _TEXTUAL:
            require_showable(value)
        elif name not in _CHEAP:
            _require_few(f"filter {name}", _weight(value, deep=name in _DEEP))
        require_bounded(name, value, others)
        return function(*args, **kwargs)

    return bounded


def require_bounded(name: str, value: object, others: tuple[Any, ...]) -> None:
    """Raises TemplateError: the filter or method of that name would make too much of the value and its other arguments."""
    numbers = [abs(number) for number in others if isinstance(number, int)]
    texts = [text for text in others if isinstance(text, str)]
    require_small(max(numbers, default=0))
    if name in ("indent", "tojson"):
        lines = value.count("\n") + 1 if isinstance(value, str) else _weight(value, deep=True)
        if name == "indent":
            _require_few("filter indent", lines)
        require_small(lines * max([*numbers, *map(len, texts)], default=0))
    elif name == "sum" and isinstance(value, list | tuple):
        require_small(len(value) * sum(len(item) for item in value if isinstance(item, Sized)))
    elif isinstance(value, str):
        _require_bounded_text(name, value, numbers, texts)
        if name in ("format", "format_map"):
            require_bounded_format(value, others)


def require_showable(value: Any) -> Any:
    """The value; raises TemplateError where its text would be too large, as that of lists that hold each other many times is."""
    if isinstance(value, list | tuple | Mapping):
        require_small(_weight(value, deep=True))
    return value


def require_bounded_format(form: str, values: Iterable[Any]) -> None:
    """Raises TemplateError: a field of the format is too wide, or a value too large."""
    values = [require_showable(value) for value in values]
    large = any(isinstance(value, int) and abs(value) >= _LARGE_NUMBER for value in values)
    if _WIDE_FIELD.search(form) or (large and _REPEATED_FIELD.search(form)):
        require_small(MOST_CHARACTERS + 1)


def bounded_items(separator: str, items: Iterable[Any]) -> list[Any]:
    """Items to be joined; raises TemplateError where they are too many or too large."""
    showable, size = [], 0
    for item in items:
        showable.append(require_showable(item))
        size += len(separator) + (len(item) if isinstance(item, str) else 1)
        require_small(size)
    return showable


def _require_bounded_text(name: str, text: str, numbers: list[int], texts: list[str]) -> None:
    if name == "expandtabs":
        require_small(len(text) + text.count("\t") * max(numbers, default=8))
    elif name == "replace" and len(texts) >= 2:
        require_small(len(text) + text.count(texts[0]) * len(texts[1]))
    elif name in ("split", "rsplit", "splitlines"):
        _require_few(name, text.count(texts[0]) if texts and texts[0] else sum(map(text.count, " \n\t\r")))


def _require_few(name: str, size: int) -> None:
    if size > MOST_SLOW:
        raise jinja2.TemplateError(f"the chat template's {name} takes at most {MOST_SLOW} characters or items")


def _weight(value: object, *, deep: bool) -> int:
    """Characters or items of a value, with those within its items if that is asked; counted no further than anybody wants to know."""
    if not deep or not isinstance(value, list | tuple | Mapping):
        return len(value) if isinstance(value, Sized) else 1
    total = _ITEM_CHARACTERS * len(value)
    for item in value:
        if total > MOST_CHARACTERS:
            break
        total += _weight(item, deep=True) + (_weight(value[item], deep=True) if isinstance(value, Mapping) else 0)
    return total
