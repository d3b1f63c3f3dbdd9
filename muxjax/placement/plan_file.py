"""A placement as a JSON file: versioned, with all that a server must know of it, which does not see the problem."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError, require, shown
from muxjax.placement.problem import MOST_POOLS, PRECISIONS, Placed, Placement, UnitPlan
from muxjax.whole_file import read_whole, write_json

VERSION = 1
BEGINS = b'{"muxjax_placement"'
"""Beginning of such a file, without spaces."""
MOST_FILE_BYTES = 64 * 2**20


def write_placement(placement: Placement, path: Path) -> None:
    """Writes the file whole or not at all.

    Raises:
      ConfigError: the place cannot be written to.
    """
    write_json(path, as_json(placement), field="output")


def as_json(placement: Placement) -> dict[str, Any]:
    """What is in such a file, for `json`."""
    chips = {"chips": list(placement.chips)} if placement.chips else {}
    return {"muxjax_placement": VERSION, **chips, "units": [asdict(unit) for unit in placement.units]}


def read_placement(path: Path) -> Placement:
    """The placement that `write_placement` wrote.

    Raises:
      ConfigError: unreadable, of another version, or not of that form.
    """
    try:
        written = json.loads(read_whole(path, most_bytes=MOST_FILE_BYTES))
    except ValueError as error:
        raise ConfigError(f"{path} is no placement that `muxjax place -o` wrote: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is no placement that `muxjax place -o` wrote: it is nested too deep") from error
    return of_json(written, str(path))


def of_json(written: object, where: str) -> Placement:
    """The placement that `as_json` made, by way of a file or of HTTP.

    Args:
      where: it comes from.
    Raises:
      ConfigError: of another version, or not of that form.
    """
    version = written.get("muxjax_placement") if isinstance(written, dict) else None
    if version != VERSION:
        raise ConfigError(f"{where}: muxjax_placement must be {VERSION}, got {shown(version)}", field="muxjax_placement")
    chips = _chips(written, where)
    units = enumerate(_value(written, "units", list, where))
    return Placement(units=tuple(_unit(unit, f"{where}: units.{i}", len(chips) or MOST_POOLS) for i, unit in units), chips=chips)


def _chips(written: object, where: str) -> tuple[str, ...]:
    """Names of chips by pool; of a file from before there were pools, the one name."""
    if _has(written, "chip"):
        return (_value(written, "chip", str, where),)
    chips = _value(written, "chips", list, where) if _has(written, "chips") else []
    if not all(type(chip) is str for chip in chips):
        raise ConfigError(f"{where}.chips must be names, got {shown(chips)}", field="chips")
    return tuple(chips)


def _unit(written: object, where: str, pools: int) -> UnitPlan:
    _require_known(written, UnitPlan, where)
    pool = _value(written, "pool", int, where) if _has(written, "pool") else 0
    require(0 <= pool < pools, f"{where}.pool", pool, f"0 to {pools - 1}, of which each has a chip")
    members = enumerate(_value(written, "members", list, where))
    return UnitPlan(
        devices=_value(written, "devices", int, where),
        members=tuple(_placed(member, f"{where}.members.{i}") for i, member in members),
        first_device=_value(written, "first_device", int, where) if _has(written, "first_device") else None,
        pool=pool,
    )


def _placed(written: object, where: str) -> Placed:
    _require_known(written, Placed, where)
    devices = _value(written, "devices", list, where)
    if not all(type(device) is int for device in devices):
        raise ConfigError(f"{where}.devices must be integers, got {shown(devices)}", field="devices")
    return Placed(
        model=_value(written, "model", str, where),
        rate_rps=_value(written, "rate_rps", float, where),
        devices=tuple(devices),
        sm_share=_value(written, "sm_share", float, where),
        **{key: _precision(written, key, where) for key in ("weights", "cache")},
    )


def _require_known(written: object, kind: type, where: str) -> None:
    """Raises ConfigError for a key that would count for nothing, as one that is misspelled; `muxjax place --json` adds some at the top."""
    known = [field.name for field in fields(kind)]
    if isinstance(written, dict) and (strange := next((key for key in written if key not in known), None)) is not None:
        raise ConfigError(f"{where}: {shown(strange)} is no known key, which are {', '.join(known)}", field=str(strange))


def _precision(written: object, key: str, where: str) -> str:
    """How weights or cache are held; in 16 bits in files from before that was said."""
    said = _value(written, key, str, where) if _has(written, key) else "bf16"
    require(said in PRECISIONS, f"{where}.{key}", said, "one of " + ", ".join(PRECISIONS))
    return said


def _has(written: object, key: str) -> bool:
    return isinstance(written, dict) and written.get(key) is not None


_NAMES = {list: "a list", int: "an integer", float: "a number", str: "a text"}


def _value(written: object, key: str, kind: type, where: str) -> Any:
    """A value of an object; an integer is a number too.

    Raises:
      ConfigError: it is missing, or of another kind.
    """
    value: Any = written.get(key) if isinstance(written, dict) else None
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ConfigError(f"{where}.{key} must be {_NAMES[kind]}, got {shown(value)}", field=key)
    try:
        return float(value) if kind is float else value
    except OverflowError:
        raise ConfigError(f"{where}.{key} is too large: {shown(value)}", field=key) from None
