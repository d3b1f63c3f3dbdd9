"""Options from a YAML file and the command line; the keys are the fields of the options' classes."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.units import parse_bytes

LOG_LEVELS = ("debug", "info", "warning", "error")
_OTHER_NAMES = {
    "kv_cache_size": "kv_cache_bytes",
    "gpu_memory_utilization": "gpu_memory_fraction",
    "shutdown_timeout": "shutdown_timeout_s",
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """The endpoint.

    Args:
      port: 0 takes a free one.
      shutdown_timeout_s: time that running requests get after SIGTERM.
    Raises:
      ConfigError: a value outside its range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    shutdown_timeout_s: float = 30.0
    max_body_bytes: int = 32 * 2**20
    log_level: str = "info"

    def __post_init__(self):
        require(0 <= self.port < 2**16, "port", self.port, "0 to 65535")
        require(0 <= self.shutdown_timeout_s < float("inf"), "shutdown_timeout_s", self.shutdown_timeout_s, "0 or more seconds")
        require(self.max_body_bytes > 0, "max_body_bytes", self.max_body_bytes, "over 0")
        require(self.log_level in LOG_LEVELS, "log_level", self.log_level, "one of " + ", ".join(LOG_LEVELS))


def load_options(sources: Sequence[str], flags: Mapping[str, object]) -> tuple[UnitOptions, HttpOptions]:
    """Of one YAML file, or of NAME=PATH for each model.

    Args:
      flags: values by field or other name; they beat the file, those of a model in every model.
    Raises:
      ConfigError: with the file and line, or the flag, of what is wrong.
    """
    is_file = len(sources) == 1 and "=" not in sources[0]
    top, models = _read_file(Path(sources[0])) if is_file else ({}, [_pair(source) for source in sources])
    given = {name: Setting(value, "--" + name.replace("_", "-")) for name, value in flags.items()}
    return _options(top, models, given)


def named_options(models: Mapping[str, str | Path], options: Mapping[str, object]) -> UnitOptions:
    """Of a path for each model name, all with the same further options.

    Raises:
      ConfigError: with the name of what is wrong.
    """
    settings = [{"name": Setting(name, name), "path": Setting(str(path), name)} for name, path in models.items()]
    return _options({}, settings, {name: Setting(value, name) for name, value in options.items()})[0]


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


def _options(top: Section, models: Sequence[Section], named: Section) -> tuple[UnitOptions, HttpOptions]:
    given = {_field(name): setting for name, setting in named.items()}
    _check_known(given, _names(ModelOptions, UnitOptions, HttpOptions))
    built = tuple(_build(ModelOptions, {**model, **given}) for model in models)
    return _build(UnitOptions, {**top, **given}, models=built), _build(HttpOptions, {**top, **given})


def _pair(source: str) -> Section:
    name, equals, path = source.partition("=")
    if not (name and equals and path):
        raise ConfigError(f"expected NAME=PATH or one YAML file, got {source!r}", field="models")
    return {"name": Setting(name, source), "path": Setting(path, source)}


def _read_file(path: Path) -> tuple[Section, list[Section]]:
    try:
        return _sections(yaml.SafeLoader(path.read_text("utf-8")), path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _sections(loader: yaml.SafeLoader, path: Path) -> tuple[Section, list[Section]]:
    node = loader.get_single_node()
    top = _section(loader, path, node, {*_names(UnitOptions, HttpOptions), "models"})
    models = next((value for key, value in getattr(node, "value", ()) if key.value == "models"), None)
    if not isinstance(models, yaml.SequenceNode):
        raise ConfigError(f"{path}: models must be a list of models, each with a name and a path", field="models")
    return top, [_section(loader, path, model, _names(ModelOptions)) for model in models.value]


def _section(loader: yaml.SafeLoader, path: Path, node: yaml.Node | None, known: set[str]) -> Section:
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        raise ConfigError(f"{path}:{line}: expected keys with values")
    section = {}
    for key, value in node.value:
        where = f"{path}:{key.start_mark.line + 1}: {key.value}"
        section[_field(str(key.value))] = Setting(loader.construct_object(value, deep=True), where, path.parent)
    _check_known(section, known)
    return section


def _field(key: str) -> str:
    name = key.replace("-", "_")
    return _OTHER_NAMES.get(name, name)


def _names(*classes: type) -> set[str]:
    return {field.name for options in classes for field in fields(options)} - {"models"}


def _check_known(section: Section, known: set[str]) -> None:
    for name, setting in section.items():
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *_OTHER_NAMES], n=1)
            hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
            raise ConfigError(f"{setting.where} is no known key{hint}", field=name)


def _build(options: type[T], section: Section, **made: object) -> T:
    """An options object of the settings that are its own."""
    hints = get_type_hints(options)
    own = {name: setting for name, setting in section.items() if name in hints and name not in made}
    try:
        return options(**{name: _converted(name, setting, hints[name]) for name, setting in own.items()}, **made)
    except ConfigError as error:
        where = own[error.field].where + ": " if error.field in own else ""
        raise ConfigError(where + str(error), field=error.field) from error
    except TypeError as error:
        where = next(iter(section.values())).where if section else "models"
        raise ConfigError(f"{where}: a model needs a name and a path") from error


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
    if kind is str or isinstance(value, bool):
        return _text(name, value)
    return _number(name, value, kind)


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
