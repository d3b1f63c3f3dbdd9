"""Options from a YAML file and the command line; the keys are the fields of the options' classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.settings import Section, Setting, build, canonical, check_known, child, names, read_yaml, section

LOG_LEVELS = ("debug", "info", "warning", "error")
_OTHER_NAMES = {
    "kv_cache_size": "kv_cache_bytes",
    "gpu_memory_utilization": "gpu_memory_fraction",
    "shutdown_timeout": "shutdown_timeout_s",
}


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


_KEYS = names(UnitOptions, HttpOptions) - {"models"}


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


def _options(top: Section, models: Sequence[Section], named: Section) -> tuple[UnitOptions, HttpOptions]:
    given = {canonical(name, _OTHER_NAMES): setting for name, setting in named.items()}
    check_known(given, _KEYS | names(ModelOptions), _OTHER_NAMES)
    built = tuple(build(ModelOptions, {**model, **given}) for model in models)
    return build(UnitOptions, {**top, **given}, models=built), build(HttpOptions, {**top, **given})


def _pair(source: str) -> Section:
    name, equals, path = source.partition("=")
    if not (name and equals and path):
        raise ConfigError(f"expected NAME=PATH or one YAML file, got {source!r}", field="models")
    return {"name": Setting(name, source), "path": Setting(path, source)}


def _read_file(path: Path) -> tuple[Section, list[Section]]:
    return read_yaml(path, lambda loader, node: _sections(loader, node, path))


def _sections(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path) -> tuple[Section, list[Section]]:
    top = section(loader, path, node, _KEYS | {"models"}, _OTHER_NAMES)
    models = child(node, "models")
    if not isinstance(models, yaml.SequenceNode):
        raise ConfigError(f"{path}: models must be a list of models, each with a name and a path", field="models")
    return top, [section(loader, path, model, names(ModelOptions), _OTHER_NAMES) for model in models.value]
