"""A placement as a JSON file: versioned, with nothing in it that the problem says already."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError
from muxjax.placement.problem import Placed, Placement, UnitPlan
from muxjax.whole_file import whole_file

VERSION = 1


def write_placement(placement: Placement, path: Path) -> None:
    """Writes the file whole or not at all.

    Raises:
      ConfigError: the place cannot be written to.
    """
    with whole_file(path, field="output") as file:
        file.write(json.dumps({"muxjax_placement": VERSION, "units": [asdict(unit) for unit in placement.units]}, indent=1) + "\n")


def read_placement(path: Path) -> Placement:
    """What `write_placement` wrote.

    Raises:
      ConfigError: unreadable, of another version, or not of that form.
    """
    try:
        written = json.loads(path.read_text("utf-8"))
        if written["muxjax_placement"] != VERSION:
            raise ConfigError(f"{path}: muxjax_placement must be {VERSION}, got {written['muxjax_placement']!r}", field="muxjax_placement")
        return Placement(units=tuple(_unit(unit) for unit in written["units"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read a placement from {path}: {type(error).__name__}: {error}") from error


def _unit(written: dict[str, Any]) -> UnitPlan:
    members = tuple(Placed(**{**member, "devices": tuple(member["devices"])}) for member in written["members"])
    return UnitPlan(devices=written["devices"], members=members)
