"""Measured seconds of steps, in a file; see `measured` for what is made of them."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError, require
from muxjax.experts import Experts
from muxjax.model_spec import Latent, ModelSpec
from muxjax.whole_file import read_whole, whole_file

VERSION = 1
BEGINS = b'{"version"'
"""Beginning of such a file, without spaces."""
MOST_FILE_BYTES = 64 * 2**20
PHASES = ("prefill", "decode")
_NO_EXPERTS = dict.fromkeys(("experts", "experts_per_token", "expert_ffn", "expert_layers", "shared_ffn"), 0)
_UNSAID = _NO_EXPERTS | {"is_gated": True, "latent": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Fields of `ModelSpec` that the cost of steps depends on: of two models alike in these, all steps cost the same.

    Args:
      experts, experts_per_token, expert_ffn, shared_ffn: of the layers that have experts, `expert_layers` in number; 0 without.
      is_gated: the MLP of the others. latent: the numbers of `model_spec.Latent`, 0 for None; none without.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    tied: bool
    windows: tuple[int | None, ...]
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    expert_layers: int = 0
    shared_ffn: int = 0
    is_gated: bool = True
    latent: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec) -> "Shape":
        return cls(
            vocab=spec.vocab,
            width=spec.width,
            layers=spec.layers,
            heads=spec.heads,
            kv_heads=spec.kv_heads,
            head_dim=spec.head_dim,
            ffn=spec.ffn,
            tied=spec.tied,
            windows=spec.windows,
            is_gated=spec.is_gated,
            latent=tuple(size or 0 for size in astuple(spec.latent)) if spec.latent else (),
            **(_mixture(spec.experts) if spec.experts else {}),
        )


def _mixture(experts: Experts) -> dict[str, int]:
    return {
        "experts": experts.count,
        "experts_per_token": experts.per_token,
        "expert_ffn": experts.ffn,
        "expert_layers": len(experts.layers),
        "shared_ffn": experts.shared_ffn,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measured step.

    Args:
      model: of the table's shapes; phase: prefill or decode.
      tp: devices that took part.
      count: new tokens of a prefill, sequences of a decode.
      context: positions that a new token attends to in the mean, of a prefill; of a sequence, of a decode.
    Raises:
      ConfigError: a value outside its range, NaN included.
    """

    model: str
    phase: str
    tp: int
    count: int
    context: float
    seconds: float

    def __post_init__(self):
        require(isinstance(self.model, str), "model", self.model, "a name")
        require(self.phase in PHASES, "phase", self.phase, " or ".join(PHASES))
        for field in ("tp", "count"):
            require(_is_whole(getattr(self, field)), field, getattr(self, field), "a whole number, 1 or more")
        for field in ("context", "seconds"):
            value = getattr(self, field)
            require(_is_number(value) and 0 < value < math.inf, field, value, "over 0 and finite")

    @property
    def point(self) -> tuple:
        """The key of the measurement: no two rows of a table have the same."""
        return self.model, self.phase, self.tp, self.count, self.context


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Measured steps, with the device and the code that they were measured on.

    Args:
      versions: of the packages that made the steps; commits: of the trees they were made from, in the order of their runs.
      shapes: of the rows' models, by name.
    Raises:
      ConfigError: a row of no known shape, or one point twice.
    """

    device: str
    versions: Mapping[str, str]
    commits: tuple[str, ...]
    shapes: Mapping[str, Shape]
    rows: tuple[Row, ...]

    def __post_init__(self):
        for i, row in enumerate(self.rows):
            require(row.model in self.shapes, f"rows[{i}].model", row.model, f"one of {', '.join(self.shapes)}")
        points = [row.point for row in self.rows]
        if len({*points}) < len(points):
            twice = next(point for point in points if points.count(point) > 1)
            require(False, "rows", twice, "measured once each")


def write_table(table: CostTable, path: Path) -> None:
    """Writes it as JSON, a line a row, whole or not at all.

    Raises:
      ConfigError: the place cannot be written to.
    """
    head = {"version": VERSION, **asdict(table)}
    lines = [f" {json.dumps(name)}: {_listed(value) if name in ('shapes', 'rows') else json.dumps(value)}" for name, value in head.items()]
    with whole_file(path, field="table") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def read_table(path: Path) -> CostTable:
    """The table of a file.

    Raises:
      ConfigError: it is no such table; names the field, its value and its limit.
    """
    try:
        entries = json.loads(read_whole(path, most_bytes=MOST_FILE_BYTES, field="table"))
        return _table(entries)
    except (ConfigError, ValueError, RecursionError) as error:
        raise ConfigError(f"cost table {path}: {error}", field="table") from error


def _table(entries: object) -> CostTable:
    entries = _fields(entries, "table", ("version", "device", "versions", "commits", "shapes", "rows"))
    require(entries["version"] == VERSION, "version", entries["version"], str(VERSION))
    require(isinstance(entries["device"], str), "device", entries["device"], "a name")
    require(isinstance(entries["versions"], dict), "versions", entries["versions"], "names and versions")
    require(isinstance(entries["commits"], list), "commits", entries["commits"], "a list of names")
    require(isinstance(entries["shapes"], dict), "shapes", entries["shapes"], "names and shapes")
    require(isinstance(entries["rows"], list) and bool(entries["rows"]), "rows", entries["rows"], "a list of at least one")
    return CostTable(
        device=entries["device"],
        versions=entries["versions"],
        commits=tuple(entries["commits"]),
        shapes={name: _shape(shape, f"shapes.{name}") for name, shape in entries["shapes"].items()},
        rows=tuple(_row(row, f"rows[{i}]") for i, row in enumerate(entries["rows"])),
    )


def _listed(values: Mapping[str, Any] | Iterable[Any]) -> str:
    """JSON with a line for each entry."""
    if isinstance(values, Mapping):
        return "{\n  " + ",\n  ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()) + "\n }"
    return "[\n  " + ",\n  ".join(map(json.dumps, values)) + "\n ]"


def _shape(entry: Any, where: str) -> Shape:
    """Older tables say nothing of experts, of MLPs without a gate, and of latents."""
    shape = _fields(_UNSAID | entry if isinstance(entry, dict) else entry, where, tuple(field.name for field in fields(Shape)))
    for name in ("vocab", "width", "layers", "heads", "kv_heads", "head_dim", "ffn"):
        require(_is_whole(shape[name]), f"{where}.{name}", shape[name], "a whole number, 1 or more")
    for name in _NO_EXPERTS:
        require(shape[name] == 0 or _is_whole(shape[name]), f"{where}.{name}", shape[name], "a whole number, 0 or more")
    for name in ("tied", "is_gated"):
        require(isinstance(shape[name], bool), f"{where}.{name}", shape[name], "true or false")
    windows = shape["windows"]
    known = isinstance(windows, list) and all(window is None or _is_whole(window) for window in windows)
    require(known and len(windows) == shape["layers"], f"{where}.windows", windows, "a number of tokens or null for each layer")
    latent = shape["latent"]
    sizes = isinstance(latent, list) and all(size == 0 or _is_whole(size) for size in latent)
    require(sizes and len(latent) in (0, len(fields(Latent))), f"{where}.latent", latent, f"{len(fields(Latent))} sizes, or none")
    read: dict[str, Any] = shape | {"windows": tuple(windows), "latent": tuple(latent)}
    return Shape(**read)


def _row(entry: Any, where: str) -> Row:
    row = _fields(entry, where, tuple(field.name for field in fields(Row)))
    try:
        return Row(
            model=row["model"],
            phase=row["phase"],
            tp=row["tp"],
            count=row["count"],
            context=row["context"],
            seconds=row["seconds"],
        )
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}", field=f"{where}.{error.field}") from error


def _fields(entry: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    require(isinstance(entry, dict), where, entry, f"an object with {', '.join(names)}")
    for name in sorted({*entry} ^ {*names}):
        limit = f"one of {', '.join(names)}" if name in entry else "there"
        require(False, f"{where}.{name}", entry.get(name, "nothing"), limit)
    return entry


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
