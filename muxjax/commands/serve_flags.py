"""Flags of `muxjax serve` and `muxjax run-batch`: options of a unit, its models and the endpoint, as `server/config` reads them."""

import argparse
import os
from collections.abc import Container, Iterable, Mapping

from muxjax.cluster.options import ClusterOptions
from muxjax.commands.flags import defaults_of, metavars_of, one_of, with_default
from muxjax.engine.options import (
    DTYPES,
    KV_CACHE_DTYPES,
    LOAD_FORMATS,
    POOLINGS,
    REASONING_PARSERS,
    TOOL_CALL_PARSERS,
    ModelOptions,
    UnitOptions,
)
from muxjax.quantization import QUANTIZATIONS
from muxjax.scheduler.policies import BY_NAME
from muxjax.server.admission.tenants import require_key
from muxjax.server.config import LOG_FORMATS, LOG_LEVELS, OTHER_NAMES, HttpOptions
from muxjax.settings import canonical

POLICIES = f"{one_of(BY_NAME)} (mux where there are lanes, else adbs)"
COMPILATION_CACHE_DIR = "where compiled programs are kept for the next start; empty for nowhere"


UNIT_GROUPS = {
    "models": {
        "max_model_len": "most tokens of prompt and output, such as 8192 or 8K, for every model (what it was made for)",
        "max_num_seqs": "most sequences at a time, for every model",
        "load_format": f"{one_of(LOAD_FORMATS)}: dummy is for random weights",
        "dtype": one_of(DTYPES),
        "kv_cache_dtype": f"{one_of(KV_CACHE_DTYPES)}, of every model's keys and values in the shared cache",
        "quantization": f"{', '.join(QUANTIZATIONS)}: all matrices are rounded while they are loaded; w8a8: prompts too (neither)",
        "allow_unknown_config": "serve models whose config.json has fields that are not known, without them; answers may differ",
        "tool_call_parser": f"{one_of(TOOL_CALL_PARSERS)}: how calls are read out of answers, for every model (what its template says)",
        "lora": "a LoRA adapter, served under its own name over a model of that name; may be given more than once",
        "max_loras": "most adapters of a model on the devices at a time (as many as it is given, up to 8)",
        "max_lora_rank": "largest rank of an adapter, for every model",
        "pooling": f"{one_of(POOLINGS)}: every model makes embeddings, of its hidden states pooled so (what its checkpoint says)",
        "reasoning_parser": f"{one_of(REASONING_PARSERS)}: how reasoning is read out of answers, for every model (what its template says)",
        "speculative_config": "how tokens of every model are drafted, such as '{method: ngram, num_speculative_tokens: 4}' (not at all)",
    },
    "devices and memory": {
        "tensor_parallel_size": "devices, each of which holds an equal share of every model",
        "kv_cache_size": "size of the shared cache on each device, such as 16GiB (what weights and steps leave; 1GiB on a CPU)",
        "memory_size": "memory of each device for weights, cache and steps, in place of the share below",
        "gpu_memory_fraction": "share of the device's memory for weights, cache and steps",
        "enable_prefix_caching": "keep what was computed while there is room, for requests that begin alike",
        "prefix_cache_fraction": "share of the cache beyond which a model's cached prefixes are the first to go",
    },
    "scheduling": {
        "policy": POLICIES,
        "lanes": "streams of a GPU whose steps run beside each other, each for models of its own; one lets all take turns (one a model)",
        "sm_shares": "multiprocessors that long prefills may keep to while other lanes decode; may be given more than once (all of them)",
        "max_num_batched_tokens": "most new tokens of one prefill step",
        "max_num_prefill_seqs": "most prompts of one prefill step",
        "max_num_shared_tokens": "the same while another model has requests that run, so that a flood holds them up less (no other)",
        "step_timeout": "seconds after which a step is stuck",
    },
    "programs": {
        "compilation_cache_dir": COMPILATION_CACHE_DIR,
        "wait_for_all": "serve when every program is compiled, not when those are that hold every step",
    },
}
HTTP_GROUPS = {
    "endpoint": {
        "host": "address to listen on; 0.0.0.0 for all",
        "port": "port to listen on; 0 for a free one",
        "max_connections": "most connections at a time; others wait (what ulimit -n leaves)",
        "shutdown_timeout": "seconds that running requests get after SIGTERM",
        "on_failure": "what to do when the device is lost or stuck: exit or stay",
    },
    "clients": {
        "api_key": "a key that clients must send; may be given more than once (or in MUXJAX_API_KEY, which no list of processes shows)",
        "max_num_queued_reqs": "most requests of all models that wait for a first token; others are refused (no limit)",
        "max_num_queued_tokens": "most tokens of their prompts (no limit)",
        "fairness": "what tells clients apart that are no tenants, to take turns: client (key, or else address), key, address, none",
        "allowed_origins": "origin of pages in a browser that may call the server, * for all; may be given more than once",
        "enable_force_include_usage": "every stream ends with its usage, whatever its stream_options say",
    },
    "administration": {
        "admin_key": "the key for administration, which is off without one (or in MUXJAX_ADMIN_KEY)",
        "admin_host": "address of metrics and administration, with --admin-port",
        "admin_port": "port that metrics and administration are on, and then only there",
        "model_root": "folder that models and templates named over HTTP must lie in (any, but templates in their model's folder)",
    },
    "logs and traces": {
        "log_level": one_of(LOG_LEVELS),
        "log_format": one_of(LOG_FORMATS),
        "trace": "file that is written with what requests and jobs do, for Perfetto or chrome://tracing",
        "otel": "true for OpenTelemetry's spans of requests, sent where the variables OTEL_* say; needs the extra otel",
    },
}
CLUSTER_GROUPS = {
    "several units": {
        "placement": "file of `muxjax place`: its units are served, each by a process of its own on its own devices",
        "problem": "file that `muxjax place` reads: it is placed, and then served",
        "worker": "serve one unit by a worker process too, so that HTTP does not hold up its steps (where there is a GPU)",
        "replan": "each time, such as 10m, it is looked whether another placement serves what comes better; only logged",
        "replan_apply": "such a placement is then served",
        "worker_dir": "folder of the workers' sockets, by which a server finds those that one before it has left (one by port)",
        "ray": "serve on the nodes of a Ray cluster, this host's or HOST:PORT; by --problem all is placed anew when nodes go or come",
        "ray_timeout": "seconds in which Ray must have devices for a unit",
        "worker_timeout": "seconds after which a worker that says nothing is ended, and another one started",
    },
}
UNIT, HTTP, CLUSTER = (
    {name: text for texts in groups.values() for name, text in texts.items()} for groups in (UNIT_GROUPS, HTTP_GROUPS, CLUSTER_GROUPS)
)
_SWITCHES = ("worker", "replan_apply", "enable_prefix_caching", "allow_unknown_config", "wait_for_all", "enable_force_include_usage")
_REPEATED = ("api_key", "admin_key", "allowed_origins", "sm_shares", "lora")
_METAVARS = {"api_key": "KEY", "admin_key": "KEY", "host": "HOST", "admin_host": "HOST", "port": "PORT", "admin_port": "PORT"}
_METAVARS |= {"allowed_origins": "ORIGIN", "ray": "HOST:PORT", "otel": "true|false", "model_root": "DIR", "worker_dir": "DIR"}
_METAVARS |= {"compilation_cache_dir": "DIR", "speculative_config": "YAML", "lora": "NAME=PATH:BASE"}
"""Of flags, what their fields' types do not say."""
_WITHOUT_VALUE = {"ray": "auto"}
"""What a flag stands for that is given alone."""
_OTHER_SPELLINGS = {"gpu_memory_fraction": ["--gpu-memory-utilization"], "tensor_parallel_size": ["-tp"]}
_ENVIRONMENT = {"api_key": "MUXJAX_API_KEY", "admin_key": "MUXJAX_ADMIN_KEY"}


def add_unit_flags(parser: argparse.ArgumentParser, names: Iterable[str] = tuple(UNIT)) -> None:
    """Flags of the unit and its models, or some of them."""
    _add(parser, UNIT_GROUPS, set(names))


def add_http_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the endpoint."""
    _add(parser, HTTP_GROUPS, HTTP)


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of several units."""
    _add(parser, CLUSTER_GROUPS, CLUSTER)


def settings(args: argparse.Namespace) -> dict[str, object]:
    """Values of the flags on a command line, by name."""
    return {name: value for name, value in vars(args).items() if name in UNIT | HTTP | CLUSTER}


def secrets(environment: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Keys that the environment holds, by the flag they stand for.

    Raises:
      ConfigError: an empty one, which was meant to be a key.
    """
    keys = {flag: (variable, environment[variable]) for flag, variable in _ENVIRONMENT.items() if variable in environment}
    for variable, key in keys.values():
        require_key(variable, key)
    return {flag: key for flag, (_, key) in keys.items()}


def _add(parser: argparse.ArgumentParser, groups: Mapping[str, Mapping[str, str]], names: Container[str]) -> None:
    """Those flags, in their groups."""
    for title, texts in groups.items():
        chosen = {name: text for name, text in texts.items() if name in names}
        if chosen:
            _add_group(parser.add_argument_group(title), chosen)


def _add_group(group: argparse._ArgumentGroup, texts: Mapping[str, str]) -> None:
    """Flags without a default of their own: a configuration's file may say otherwise."""
    classes = (ModelOptions, UnitOptions, HttpOptions, ClusterOptions)
    defaults, metavars = defaults_of(*classes), metavars_of(*classes) | _METAVARS
    for name, text in texts.items():
        flag, field = "--" + name.replace("_", "-"), canonical(name, OTHER_NAMES)
        text, metavar = with_default(text, defaults.get(field)), metavars.get(field, "NAME")
        if name in _SWITCHES:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        elif name in _WITHOUT_VALUE:
            group.add_argument(flag, nargs="?", const=_WITHOUT_VALUE[name], default=argparse.SUPPRESS, metavar=metavar, help=text)
        else:
            spellings, action = [flag, *_OTHER_SPELLINGS.get(name, ())], "append" if name in _REPEATED else "store"
            group.add_argument(*spellings, action=action, default=argparse.SUPPRESS, metavar=metavar, help=text)
