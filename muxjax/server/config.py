"""Options from a YAML file and the command line; the keys are the fields of the options' classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import yaml

from muxjax.cluster.options import ClusterOptions
from muxjax.engine.options import LoraOptions, ModelGroup, ModelOptions, UnitOptions
from muxjax.errors import ConfigError, require, shown
from muxjax.server.admission.lines import FAIRNESS
from muxjax.server.admission.tenants import Tenant, digest, require_digests, require_key
from muxjax.settings import Section, Setting, build, canonical, check_known, child, names, read_yaml, required, section
from muxjax.specs.folders import require_model_folder

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
ON_FAILURE = ("exit", "stay")
MOST_HEADER_BYTES = 64 * 2**10
"""Largest line of a request's head, beyond which nothing is read."""
MOST_HOST = 253
_YAML, _WEIGHTS = (".yaml", ".yml"), (".gguf", ".safetensors", ".bin", ".pth", ".pt")
OTHER_NAMES = {
    "kv_cache_size": "kv_cache_bytes",
    "memory_size": "memory_bytes",
    "gpu_memory_utilization": "gpu_memory_fraction",
    "shutdown_timeout": "shutdown_timeout_s",
    "step_timeout": "step_timeout_s",
    "max_body_size": "max_body_bytes",
    "max_header_size": "max_header_bytes",
    "read_timeout": "read_timeout_s",
    "write_timeout": "write_timeout_s",
    "keep_alive_timeout": "keep_alive_timeout_s",
    "worker_timeout": "worker_timeout_s",
    "ray_timeout": "ray_timeout_s",
    "replan": "replan_s",
    "response_store_size": "response_store_bytes",
    "ttl": "ttl_s",
}
_SECRETS = {"api_key": "api_keys", "admin_key": "admin_keys"}
"""Keys as flags give them, and the field that holds their digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """The endpoint.

    Args:
      port: 0 takes a free one.
      shutdown_timeout_s: time that running requests get after SIGTERM.
      on_failure: what the server does when its device is lost or stuck, having ended all requests: "exit" with status 1, or "stay" and
        refuse requests until it goes on.
      api_keys: digests of keys without a name; with neither these nor tenants, everybody may come in.
      tenants: who has keys and limits of their own.
      fairness: what tells clients without a tenant's name apart, so that their requests take turns: of FAIRNESS.
      admin_keys: digests of the keys for administration, which is off without one.
      admin_host, admin_port: where metrics and administration are, and then only there; None for beside the rest.
      allowed_origins: origins of pages in a browser that may call the server, "*" for all.
      enable_force_include_usage: every stream ends with its usage, as if it had asked for it.
      model_root: folder that models and templates named over HTTP must lie in; None for anywhere, but templates in their model's folder.
      max_connections: most connections at a time, beyond which they wait; None for what the limit of open files leaves.
      max_body_bytes, max_header_bytes: largest size of a request's parts.
      read_timeout_s: time in which a request's body must come.
      write_timeout_s: time in which a client must take what it is sent.
      keep_alive_timeout_s: time in which the head of a connection's next request must come.
      response_store_bytes: most that responses take which clients may ask for again or go on from; 0 keeps none.
      trace: a file of Chrome's trace events to write, over what it held; None for none.
      otel: make OpenTelemetry's spans of requests; the variables OTEL_* say the rest.
    Raises:
      ConfigError: a value outside its range, a tenant without a key, or a key that two have.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    shutdown_timeout_s: float = 30.0
    on_failure: str = "exit"
    api_keys: tuple[str, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    fairness: str = "client"
    admin_keys: tuple[str, ...] = ()
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    allowed_origins: tuple[str, ...] = ()
    enable_force_include_usage: bool = False
    model_root: Path | None = None
    max_connections: int | None = None
    max_body_bytes: int = 8 * 2**20
    max_header_bytes: int = 16 * 2**10
    read_timeout_s: float = 60.0
    write_timeout_s: float = 30.0
    keep_alive_timeout_s: float = 75.0
    response_store_bytes: int = 64 * 2**20
    log_level: str = "info"
    log_format: str = "text"
    trace: Path | None = None
    otel: bool = False

    def __post_init__(self):
        for field in ("host", "admin_host"):
            require(
                0 < len(getattr(self, field)) <= MOST_HOST, field, getattr(self, field), f"a host or address of at most {MOST_HOST} letters"
            )
        require(0 <= self.port < 2**16, "port", self.port, "0 to 65535")
        require(self.admin_port is None or 0 <= self.admin_port < 2**16, "admin_port", self.admin_port, "0 to 65535")
        require(0 <= self.shutdown_timeout_s < float("inf"), "shutdown_timeout_s", self.shutdown_timeout_s, "0 or more seconds")
        for field in ("read_timeout_s", "write_timeout_s", "keep_alive_timeout_s"):
            require(0 < getattr(self, field) < float("inf"), field, getattr(self, field), "over 0 seconds")
        require(self.max_connections is None or self.max_connections >= 1, "max_connections", self.max_connections, "1 or more")
        require(self.max_body_bytes > 0, "max_body_bytes", self.max_body_bytes, "over 0")
        require(0 < self.max_header_bytes <= MOST_HEADER_BYTES, "max_header_bytes", self.max_header_bytes, f"1 to {MOST_HEADER_BYTES}")
        require(self.response_store_bytes >= 0, "response_store_bytes", self.response_store_bytes, "0 or more")
        require(self.log_level in LOG_LEVELS, "log_level", self.log_level, "one of " + ", ".join(LOG_LEVELS))
        require(self.log_format in LOG_FORMATS, "log_format", self.log_format, "one of " + ", ".join(LOG_FORMATS))
        require(self.on_failure in ON_FAILURE, "on_failure", self.on_failure, "one of " + ", ".join(ON_FAILURE))
        root = self.model_root
        require(root is None or root.is_dir(), "model_root", str(root), "a folder that is there")
        require(self.fairness in FAIRNESS, "fairness", self.fairness, "one of " + ", ".join(FAIRNESS))
        require_digests("api_keys", self.api_keys)
        require_digests("admin_keys", self.admin_keys)
        self._check_tenants()

    def _check_tenants(self) -> None:
        names = [tenant.name for tenant in self.tenants]
        require(all(names) and len(set(names)) == len(names), "tenants", ", ".join(names), "named, once each")
        for tenant in self.tenants:
            require(bool(tenant.api_keys), "tenants", tenant.name, "of at least one of api_keys each: without one nobody is that tenant")
        keys = [key for tenant in self.tenants for key in tenant.api_keys] + [*self.api_keys, *self.admin_keys]
        require(len(set(keys)) == len(keys), "tenants", f"{len(keys)} keys", "of keys that nobody else has")


class Options(NamedTuple):
    """All that a server is told."""

    unit: UnitOptions
    http: HttpOptions
    cluster: ClusterOptions


LISTS = {
    "models": (ModelOptions, "what is served"),
    "groups": (ModelGroup, "what models of a group do for each other"),
    "tenants": (Tenant, "who has keys and limits of their own"),
}
"""Keys of a file that hold a list, the class of its entries, and what they are."""
FOR_ALL_MODELS = names(ModelOptions) - names(UnitOptions) - {"name", "path", "aliases", "loras"}
"""Keys of a model that may stand at the top of a file too, for all models that do not say otherwise."""
_KEYS = (names(UnitOptions, HttpOptions, ClusterOptions) - {*LISTS}) | FOR_ALL_MODELS


class _Sections(NamedTuple):
    """Settings of a file, or of the command line."""

    top: Section
    models: Sequence[Section]
    groups: Sequence[Section] = ()
    tenants: Sequence[Section] = ()


def load_options(sources: Sequence[str], flags: Mapping[str, object]) -> Options:
    """Options of one YAML file, or of a folder or NAME=PATH for each model.

    Args:
      flags: values by field or other name; they beat the file, those of a model in every model.
    Raises:
      ConfigError: with the file and line, or the flag, of what is wrong.
    """
    is_file = len(sources) == 1 and _is_configuration(sources[0])
    sections = _read_file(Path(sources[0])) if is_file else _Sections({}, [_model(source) for source in sources])
    settings = {name: Setting(value, "--" + name.replace("_", "-")) for name, value in flags.items()}
    return _options(sections, settings)


def named_options(models: Mapping[str, str | Path], options: Mapping[str, object]) -> UnitOptions:
    """Options of a path for each model name, all with the same further options.

    Raises:
      ConfigError: with the name of what is wrong.
    """
    settings = [{"name": Setting(name, name), "path": Setting(str(path), name)} for name, path in models.items()]
    return _options(_Sections({}, settings), {name: Setting(value, name) for name, value in options.items()}).unit


def _options(sections: _Sections, flags: Section) -> Options:
    loras = [_lora(text) for text in _listed(flags["lora"].value)] if "lora" in flags else []
    settings = {canonical(name, OTHER_NAMES): setting for name, setting in _hashed(flags).items() if name != "lora"}
    check_known(settings, _KEYS | names(ModelOptions), OTHER_NAMES)
    model_settings = {name: setting for name, setting in settings.items() if name not in names(UnitOptions)}
    for_all = {name: setting for name, setting in sections.top.items() if name in FOR_ALL_MODELS}
    models = tuple(build(ModelOptions, {**_over(model, for_all), **model_settings}) for model in sections.models)
    groups = tuple(build(ModelGroup, group) for group in sections.groups)
    for group in groups:
        require(any(model.group == group.name for model in models), "groups", group.name, "groups that a model names as its own")
    tenants = tuple(build(Tenant, tenant) for tenant in sections.tenants)
    top = {**sections.top, **settings}
    unit = build(UnitOptions, top, models=_with_loras(models, loras), groups=groups)
    return Options(unit, build(HttpOptions, top, tenants=tenants), build(ClusterOptions, top))


def _lora(text: str) -> tuple[LoraOptions, str]:
    """An adapter of NAME=PATH:BASE, and the name of its model.

    Raises:
      ConfigError: it is none.
    """
    name, _, place = text.partition("=")
    path, _, base = place.rpartition(":")
    require(bool(name and path and base), "lora", text, "NAME=PATH:BASE, with the name of the model that it is over")
    return LoraOptions(name=name, path=Path(path)), base


def _with_loras(models: Sequence[ModelOptions], loras: Sequence[tuple[LoraOptions, str]]) -> tuple[ModelOptions, ...]:
    """The models, and over each its adapters.

    Raises:
      ConfigError: an adapter is over none of them.
    """
    for lora, base in loras:
        there = [name for model in models for name in (model.name, *model.aliases)]
        require(base in there, "lora", f"{lora.name} over {base}", "over one of " + ", ".join(there))
        models = [replace(one, loras=(*one.loras, lora)) if base in (one.name, *one.aliases) else one for one in models]
    return tuple(models)


def _hashed(flags: Section) -> Section:
    """The flags with digests in place of the keys: nothing built of them can tell a key."""
    keys = {field: flags[flag] for flag, field in _SECRETS.items() if flag in flags}
    others = {name: setting for name, setting in flags.items() if name not in _SECRETS}
    return others | {
        field: Setting([_digest(key, setting) for key in _listed(setting.value)], setting.where) for field, setting in keys.items()
    }


def _digest(key: str, setting: Setting) -> str:
    require_key(setting.where, key)
    return digest(key)


def _listed(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _over(model: Section, for_all: Section) -> Section:
    """A model's own settings, and behind them those for all models."""
    return model | {name: setting for name, setting in for_all.items() if name not in model}


def _is_configuration(source: str) -> bool:
    """A file, or what is called like one; anything else is a model."""
    path = Path(source)
    return "=" not in source and (path.suffix in _YAML or (path.is_file() and path.suffix not in _WEIGHTS))


def _model(source: str) -> Section:
    """A model of NAME=PATH, or of a folder, whose name is its own.

    Raises:
      ConfigError: it is neither; it says what is there.
    """
    name, equals, path = source.partition("=")
    if not equals:
        require_model_folder(Path(source))
        name, path = Path(source).resolve().name, source
    if not (name and path):
        raise ConfigError(f"expected NAME=PATH, the folder of a model or one YAML file, got {shown(source)}", field="models")
    return {"name": Setting(name, source), "path": Setting(path, source)}


def _read_file(path: Path) -> _Sections:
    return read_yaml(path, lambda loader, node: _sections(loader, node, path))


def _sections(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path) -> _Sections:
    top = section(loader, path, node, {*_KEYS, *LISTS}, OTHER_NAMES)
    lists = {name: _entries(loader, path, child(node, name), name) for name in LISTS}
    return _Sections(top, **lists)


def _entries(loader: yaml.SafeLoader, path: Path, node: yaml.Node | None, name: str) -> list[Section]:
    """The entries of one of LISTS; only models must be there.

    Raises:
      ConfigError: it is no list of them.
    """
    options, _ = LISTS[name]
    if node is None and name != "models":
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{path}: {name} must be a list of {name}, each with {' and '.join(required(options))}", field=name)
    return [section(loader, path, entry, names(options), OTHER_NAMES) for entry in node.value]
