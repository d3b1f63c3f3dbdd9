"""Options written in YAML: read with the line of each value, checked against the fields of dataclasses, and built in their types."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

from muxjax.errors import ConfigError
from muxjax.units import parse_bytes

T = TypeVar("T")


class Setting(NamedTuple):
    """A value as it was written.

    Args:
      where: to be named in an error.
      base: what a relative path is relative to.
    """

    value: Any
    where: str
    base: Path = Path()


Section = dict[str, Setting]


def read_yaml(path: Path, read: Callable[[yaml.SafeLoader, yaml.Node | None], T]) -> T:
    """The value that `read` makes of a file's one document.

    Raises:
      ConfigError: no readable YAML, or what `read` raises.
    """
    try:
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        return read(loader, loader.get_single_node())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a key of a mapping, None if it is not there."""
    return next((value for key, value in getattr(node, "value", ()) if getattr(key, "value", None) == name), None)


def section(
    loader: yaml.SafeLoader, path: Path, node: yaml.Node | None, known: Iterable[str], other_names: Mapping[str, str] | None = None
) -> Section:
    """The settings of a mapping of the file.

    Args:
      known: keys there may be; dashes stand for underscores.
      other_names: further spellings of them.
    Raises:
      ConfigError: with file and line: no mapping, or a key that is not known.
    """
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        raise ConfigError(f"{path}:{line}: expected keys with values")
    settings = {}
    for key, value in node.value:
        where = f"{path}:{key.start_mark.line + 1}: {key.value}"
        settings[canonical(str(key.value), other_names)] = Setting(loader.construct_object(value, deep=True), where, path.parent)
    check_known(settings, known, other_names)
    return settings


def canonical(key: str, other_names: Mapping[str, str] | None = None) -> str:
    """The field that a key or flag means."""
    name = key.replace("-", "_")
    return (other_names or {}).get(name, name)


def names(*classes: type) -> set[str]:
    """Fields of dataclasses."""
    return {field.name for options in classes for field in fields(options)}


def check_known(section: Section, known: Iterable[str], other_names: Mapping[str, str] | None = None) -> None:
    """Raises ConfigError for a key that is not known, with the one it resembles."""
    for name, setting in section.items():
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *(other_names or ())], n=1)
            hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
            raise ConfigError(f"{setting.where} is no known key{hint}", field=name)


def build(options: type[T], section: Section, **parts: object) -> T:
    """An options object of the settings that are its own, and of `parts` that are objects already.

    Raises:
      ConfigError: with where it was written: a value of another type, outside its range, or missing.
    """
    hints = get_type_hints(options)
    own = {name: setting for name, setting in section.items() if name in hints and name not in parts}
    try:
        return options(**{name: _converted(name, setting, hints[name]) for name, setting in own.items()}, **parts)
    except ConfigError as error:
        where = own[error.field].where + ": " if error.field in own else ""
        raise ConfigError(where + str(error), field=error.field) from error
    except TypeError as error:
        where = next(iter(section.values())).where if section else options.__name__
        missing = " and ".join(name for name in required(options) if name not in own and name not in parts)
        raise ConfigError(f"{where}: needs {missing} too") from error


def required(options: type) -> list[str]:
    """Fields without a default."""
    return [field.name for field in fields(options) if field.default is MISSING and field.default_factory is MISSING]


def _converted(name: str, setting: Setting, hint: Any) -> object:
    """The value in its field's type."""
    value, choices = setting.value, get_args(hint)
    if value is None and NoneType in choices:
        return None
    if get_origin(hint) is tuple:
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)
    kind = choices[0] if choices else hint
    if name.endswith("_bytes"):
        return parse_bytes(str(value), field=name)
    if kind is Path:
        return setting.base / str(value)
    if kind is bool:
        return _flag(name, value)
    if kind is str or isinstance(value, bool):
        return _text(name, value)
    return _number(name, value, kind)


def _flag(name: str, value: object) -> bool:
    """True and false as YAML knows them, or as a flag of a command line spells them."""
    spelled = {"true": True, "false": False}
    if str(value).lower() not in spelled:
        raise ConfigError(f"{name} must be true or false, got {value!r}", field=name)
    return spelled[str(value).lower()]


def _text(name: str, value: object) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ConfigError(f"{name} must be a text or number, got {value!r}", field=name)
    return str(value)


def _number(name: str, value: Any, kind: type[int] | type[float]) -> float:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and number != value):
        raise ConfigError(f"{name} must be {'an integer' if kind is int else 'a number'}, got {value!r}", field=name)
    return number
