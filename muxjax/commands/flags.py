"""Flags of a command line, made of the fields of options' classes, where their types and defaults stand."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from muxjax.errors import shown
from muxjax.units import parse_s

T = TypeVar("T")


def add_fields(parser: argparse.ArgumentParser, options: type, texts: Mapping[str, str]) -> None:
    """A flag for each of the fields that have a text."""
    hints, defaults, metavars = get_type_hints(options), defaults_of(options), metavars_of(options)
    for name, text in texts.items():
        kind, several = _kind(hints[name])
        parser.add_argument(
            "--" + name.removesuffix("_s").replace("_", "-"),
            dest=name,
            type=file_path if kind is Path else seconds if name.endswith("_s") else kind,
            nargs="+" if several else None,
            default=defaults[name],
            metavar=metavars[name],
            help=with_default(text, defaults[name]),
        )


def read_fields(options: type[T], args: argparse.Namespace) -> T:
    """The options that a command line's arguments name."""
    return options(**{field.name: getattr(args, field.name) for field in fields(options)})  # pyright: ignore[reportArgumentType]


def defaults_of(*classes: Any) -> dict[str, Any]:
    """Defaults by field, of fields that have one."""
    return {field.name: field.default for options in classes for field in fields(options) if field.default is not MISSING}


def metavars_of(*classes: Any) -> dict[str, str]:
    """What a flag of each field wants, in a word."""
    return {name: _metavar(name, _kind(hint)[0]) for options in classes for name, hint in get_type_hints(options).items()}


def _metavar(name: str, kind: type) -> str:
    if name.endswith("_bytes"):
        return "SIZE"
    if name.endswith("_s"):
        return "SECONDS"
    if name.endswith(("_url", "_key")):
        return name[-3:].upper()
    if kind is Path:
        return "FILE"
    if kind is int:
        return "N"
    if kind is float:
        return "SHARE" if name.endswith("_fraction") else "NUMBER"
    return "NAME"


def with_default(text: str, default: object) -> str:
    """The text of a flag, with the default behind it where that is a value."""
    if default in (None, "", ()) or default is False:
        return text
    if default is True:
        return f"{text} (the default)"
    values = default if isinstance(default, tuple) else (default,)
    return f"{text} ({' '.join(f'{value:g}' if isinstance(value, float) else str(value) for value in values)})"


def one_of(names: Iterable[str]) -> str:
    """The names, for the text of a flag."""
    *most, last = names
    return f"{', '.join(most)} or {last}"


def file_path(text: str) -> Path:
    """The path that a flag names; argparse tells what is wrong with it."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be a path, not empty and without a NUL, got {shown(text)}")
    return Path(text)


def seconds(text: str) -> float:
    """The time that a flag gives; argparse tells what is wrong with it."""
    parsed = parse_s(text)
    try:
        return float(text) if parsed is None else parsed
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be seconds, or a time such as 90s, 10m or 1.5h, got {shown(text)}") from None


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of a value, and whether there are several."""
    choices = get_args(hint)
    return (choices[0] if choices else hint), get_origin(hint) is tuple
