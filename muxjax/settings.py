"""Options written in YAML: read with the line of each value, checked against the fields of dataclasses, and built in their types."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

from muxjax.errors import ConfigError, shown
from muxjax.units import parse_bytes, parse_count, parse_s
from muxjax.whole_file import read_whole

T = TypeVar("T")
MOST_FILE_BYTES = 2**20
_MOST_SHOWN = 80
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
      ConfigError: no readable YAML, nested too deep, over MOST_FILE_BYTES, or what `read` raises.
    """
    text = read_whole(path, most_bytes=MOST_FILE_BYTES)
    try:
        loader = yaml.SafeLoader(text)
        return read(loader, loader.get_single_node())
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"cannot read {path}: it is nested too deep, options need three levels") from error


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
      ConfigError: with file and line: no mapping, or a key that is not known, or given twice, in whichever spellings.
    """
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        raise ConfigError(f"{path}:{line}: expected keys with values")
    settings: Section = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: a key must be a word, not a list or keys with values")
        name, where = canonical(key.value, other_names), f"{path}:{line}: {key.value[:_MOST_SHOWN]}"
        if name in settings:
            raise ConfigError(f"{where} is given twice, and stands in line {lines[name]} already", field=name)
        settings[name], lines[name] = Setting(_constructed(loader, value, where), where, path.parent), line
    check_known(settings, known, other_names)
    return settings


def _constructed(loader: yaml.SafeLoader, node: yaml.Node, where: str) -> object:
    """The node's value; PyYAML raises whatever comes of a date such as 2026-13-01, or of an integer of 5,000 digits."""
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"{where}: {shown(getattr(node, 'value', ''))} cannot be read as {node.tag.rpartition(':')[2]}") from error


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
            near = difflib.get_close_matches(name[:_MOST_SHOWN], [*known, *(other_names or ())], n=1)
            hint = f"; did you mean {_spelled(near[0], setting.where)}?" if near else ""
            raise ConfigError(f"{setting.where} is no known key{hint}", field=name)


def _spelled(name: str, where: str) -> str:
    """The name of a key as whoever wrote there spells names: with dashes, or as fields are."""
    return name.replace("_", "-") if "-" in where.rpartition(": ")[2] else name


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
        if error.field not in own:
            raise
        raise placed(error, own[error.field]) from error
    except TypeError as error:
        where = next(iter(section.values())).where if section else options.__name__
        missing = " and ".join(name for name in required(options) if name not in own and name not in parts)
        raise ConfigError(f"{where}: needs {missing} too") from error


def placed(error: ConfigError, setting: Setting) -> ConfigError:
    """The error with where its setting was written, by the name that it has there."""
    said = str(error)
    said = said.removeprefix(error.field) if said.startswith(f"{error.field} ") else f": {said}"
    return ConfigError(setting.where + said, field=error.field)


def required(options: type) -> list[str]:
    """Fields without a default."""
    return [field.name for field in fields(options) if field.default is MISSING and field.default_factory is MISSING]


def _converted(name: str, setting: Setting, hint: Any) -> object:
    """The value in its field's type."""
    value, choices = setting.value, get_args(hint)
    if value is None and NoneType in choices:
        return None
    if get_origin(hint) is tuple:
        items: list[object] = list(value) if isinstance(value, list | tuple) else [value]
        if isinstance(choices[0], type) and is_dataclass(choices[0]):
            return tuple(_nested(name, setting._replace(value=item), choices[0]) for item in items)
        return tuple(_number(name, item, int) if choices[0] is int else _text(name, item) for item in items)
    kind = choices[0] if choices else hint
    if isinstance(kind, type) and is_dataclass(kind):
        return value if isinstance(value, kind) else _nested(name, setting, kind)
    if name.endswith("_bytes"):
        return parse_bytes(_text(name, value), field=name)
    if kind is Path:
        return setting.base / _path(name, value)
    if kind is bool:
        return _flag(name, value)
    if name.endswith("_s") and isinstance(value, str) and (seconds := parse_s(value)) is not None:
        return seconds
    if name.endswith(("_len", "_tokens")) and isinstance(value, str) and (count := parse_count(value, field=name)) is not None:
        return count
    if kind is str or isinstance(value, bool):
        return _text(name, value)
    return _number(name, value, kind)


def _nested(name: str, setting: Setting, options: type[T]) -> T:
    """An options object of keys with values; a flag has them in one text of YAML, which JSON is too."""
    value = setting.value
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            value = setting.value
    if not isinstance(value, Mapping):
        example = ", ".join(f"{field}: ..." for field in required(options))
        raise ConfigError(f"{name} must be keys with values, such as {{{example}}}, got {shown(setting.value)}", field=name)
    own = {canonical(str(key)): Setting(item, f"{setting.where}: {str(key)[:_MOST_SHOWN]}", setting.base) for key, item in value.items()}
    try:
        check_known(own, names(options))
        return build(options, own or {"": setting})
    except ConfigError as error:
        raise ConfigError(str(error)) from error  # it says where it stands, which fields of the same name elsewhere do not


def _flag(name: str, value: object) -> bool:
    """True and false as YAML knows them, or as a flag of a command line spells them."""
    spelled = {"true": True, "false": False}
    if not isinstance(value, bool | str) or str(value).lower() not in spelled:
        raise ConfigError(f"{name} must be true or false, got {shown(value)}", field=name)
    return spelled[str(value).lower()]


def _text(name: str, value: object) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ConfigError(f"{name} must be a text or number, got {shown(value)}", field=name)
    try:
        text = str(value)
        text.encode()
    except ValueError:  # surrogates, or an integer that Python does not write out
        raise ConfigError(f"{name} must be a text in UTF-8, got {shown(value)}", field=name) from None
    if _CONTROL.search(text):
        raise ConfigError(f"{name} must be a text of one line without control characters, got {shown(value)}", field=name)
    return text


def _path(name: str, value: object) -> str:
    """A path as it was written, which an operating system could have; Linux has paths that are no UTF-8."""
    text = str(value) if isinstance(value, str | Path | int | float) and not isinstance(value, bool) else ""
    if not text or "\0" in text:
        raise ConfigError(f"{name} must be a path, not empty and without a NUL, got {shown(value)}", field=name)
    return text


def _number(name: str, value: Any, kind: type[int] | type[float]) -> float:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and number != value):
        raise ConfigError(f"{name} must be {'an integer' if kind is int else 'a number'}, got {shown(value)}", field=name)
    return number
