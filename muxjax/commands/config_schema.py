"""`muxjax schema`: the JSON schema of a configuration's file, made of the options' classes, by which editors complete and check it.

The package has it as `config.schema.json`; a test holds that file against this module.
"""

import inspect
import json
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from muxjax.cluster.options import ClusterOptions
from muxjax.engine.options import DTYPES, KV_CACHE_DTYPES, LOAD_FORMATS, OTHER_DTYPES, ModelOptions, UnitOptions
from muxjax.engine.speculation.options import SPECULATIVE_METHODS
from muxjax.quantization import QUANTIZATIONS
from muxjax.scheduler.policies import BY_NAME
from muxjax.server.admission.lines import FAIRNESS
from muxjax.server.config import FOR_ALL_MODELS, LISTS, LOG_FORMATS, LOG_LEVELS, ON_FAILURE, OTHER_NAMES, HttpOptions
from muxjax.settings import required

_CHOICES = {
    **{"policy": BY_NAME, "load_format": LOAD_FORMATS, "quantization": QUANTIZATIONS},
    **{"dtype": (*DTYPES, *OTHER_DTYPES), "kv_dtype": DTYPES, "kv_cache_dtype": KV_CACHE_DTYPES},
    **{"log_level": LOG_LEVELS, "log_format": LOG_FORMATS, "on_failure": ON_FAILURE, "fairness": FAIRNESS},
    "method": SPECULATIVE_METHODS,
}
_SIZE = {"type": ["integer", "string"], "pattern": r"^\s*[0-9.]+\s*[kKmMgGtT]?([iI]?[bB])?\s*$"}
_TIME = {"type": ["number", "string"], "pattern": r"^\s*[0-9.]+\s*[smhSMH]?\s*$"}
_COUNT = {"type": ["integer", "string"], "pattern": r"^\s*([0-9]+[kKmMgGtT]?|[0-9.]+[kmgt])\s*$"}
_PLAIN = {str: {"type": ["string", "number"]}, Path: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}}
_WRITTEN = {"_bytes": _SIZE, "_s": _TIME, "_len": _COUNT, "_tokens": _COUNT}
"""How values may be written, by the end of their fields' names."""
_DASHED = "^[a-z]+(-[a-z]+)+$"
"""Keys with dashes for underscores, which a start takes too; they are not looked at."""


def text() -> str:
    """The schema as the file has it."""
    return json.dumps(schema(), indent=1) + "\n"


def schema() -> dict[str, Any]:
    """JSON schema, draft 7, of a configuration."""
    lists = {name: {"type": "array", "items": _object(options), "description": what} for name, (options, what) in LISTS.items()}
    for_all = {
        name: entry | {"description": f"For all models that do not say otherwise: {entry.get('description', name)}"}
        for name, entry in _properties(ModelOptions).items()
        if _field(name) in FOR_ALL_MODELS
    }
    options = {name: entry for each in (UnitOptions, HttpOptions, ClusterOptions) for name, entry in _properties(each).items()}
    properties = lists | for_all | options
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Configuration of muxjax serve"}
    return head | _closed(properties, ["models"])


def _object(options: type) -> dict[str, Any]:
    return _closed(_properties(options), required(options))


def _closed(properties: dict[str, Any], needed: list[str]) -> dict[str, Any]:
    """An object of those keys, and no others that are spelled as they are."""
    return {
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "patternProperties": {_DASHED: True},
        "additionalProperties": False,
        "required": needed,
    }


def _properties(options: type) -> dict[str, Any]:
    """Every key of a class's fields, in all spellings, with its type, default and text."""
    hints, told = get_type_hints(options), _told(options)
    own = [field for field in fields(options) if field.name not in LISTS]
    made = {field.name: _described(field, hints[field.name], told.get(field.name, "")) for field in own}
    others = {other: made[field] for other, field in OTHER_NAMES.items() if field in made}
    return made | others


def _described(field: Field, hint: Any, told: str) -> dict[str, Any]:
    entry = _typed(field.name, hint)
    if told:
        entry["description"] = told
    if field.default is not MISSING and isinstance(field.default, bool | int | float | str):
        entry["default"] = field.default
    return entry


def _typed(name: str, hint: Any) -> dict[str, Any]:
    choices = get_args(hint)
    if get_origin(hint) is tuple:
        item = _object(choices[0]) if choices[0] not in _PLAIN else _PLAIN[choices[0]]
        return {"anyOf": [{"type": "array", "items": item}, item]}
    kinds = [choice for choice in choices if choice is not NoneType] or [hint]
    written = next((form for end, form in _WRITTEN.items() if name.endswith(end)), None)
    entry = dict(written or _PLAIN.get(kinds[0], {"type": "number"}))
    if isinstance(kinds[0], type) and is_dataclass(kinds[0]):
        entry = _object(kinds[0])
    if name in _CHOICES:
        entry = {"enum": [*_CHOICES[name]]}
    if NoneType not in choices:
        return entry
    return {"anyOf": [entry, {"type": "null"}]}


def _told(options: type) -> dict[str, str]:
    """What the class's docstring says of each of its fields."""
    section = (inspect.getdoc(options) or "").partition("Args:\n")[2].partition("\nRaises:")[0]
    entries = re.findall(r"^  (\w[\w, ]*): (.+(?:\n    .+)*)", section, re.MULTILINE)
    return {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}


def _field(name: str) -> str:
    return OTHER_NAMES.get(name, name)
