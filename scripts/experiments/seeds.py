"""Lines that differ in nothing but their seeds, as one: pure."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from scripts.experiments.verdicts import Line

SEEDS = "seeds"
"""Under which a line made of several keeps theirs."""


def over_seeds(lines: Sequence[Line]) -> list[Line]:
    """A line for each device, backend, load and rate: means of its seeds' numbers, and the rest as the first has it; valid if all are."""
    groups: dict[tuple[object, ...], list[Line]] = {}
    for line in lines:
        config = line["config"]
        groups.setdefault((line["device"], config["backend"], config["scale"], config["duration_s"]), []).append(line)
    return [_merged(own) for own in groups.values()]


def spread(line: Line, key: str, form: str) -> str:
    """A value of the line, and its least and most over the seeds where there are several; empty where there is none."""
    values = [each[key] for each in line.get(SEEDS, [line["values"]]) if each[key] is not None]
    if line["values"][key] is None or not values:
        return ""
    told = format(line["values"][key], form)
    return told if len(values) == 1 else f"{told} ({min(values):{form}} to {max(values):{form}})"


def _merged(lines: Sequence[Line]) -> Line:
    if len(lines) == 1:
        return lines[0]
    values = [line["values"] for line in lines]
    merged = _mean(values) | {"valid": all(one["valid"] for one in values)}
    merged["trouble"] = next((one["trouble"] for one in values if one["trouble"]), "")
    return {**lines[0], "values": merged, SEEDS: values}


def _mean(values: Sequence[Any]) -> Any:
    """Of numbers, and of what mappings hold, key by key."""
    if all(isinstance(one, Mapping) for one in values):
        return {key: _mean([one[key] for one in values if key in one]) for key in values[0]}
    if all(isinstance(one, Real) and not isinstance(one, bool) for one in values):
        return sum(values) / len(values)
    return values[0]
