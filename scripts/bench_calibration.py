"""How far is the roofline from measured steps?

    python -m scripts.bench_calibration [TABLE.json ...]
    python -m scripts.bench_calibration --fit     # the fractions and delays of a chip that its tables ask for, in `cost/chip.py`

Of cost tables that `muxjax profile` wrote, those of the package by default. Writes docs/results/calibration/.
"""

import argparse
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from muxjax.cost import roofline
from muxjax.cost.chip import CHIPS, Chip, MeshSpec
from muxjax.cost.measured import of_chip
from muxjax.cost.table import CostTable, Row, Shape, read_table
from muxjax.errors import require
from muxjax.specs.published import BY_NAME
from scripts import results

QUESTION = "calibration"
TABLES = results.ROOT / "muxjax/cost/tables"


def measure(table: CostTable) -> Iterator[dict]:
    """A record of each row.

    Raises:
      ConfigError: no preset for the table's device, or a shape that is not published.
    """
    chip = _chip(table)
    for row in table.rows:
        seconds = roofline_s(table.shapes[row.model], chip, row)
        yield {
            "commit": ", ".join(table.commits),
            "device": table.device,
            "versions": dict(table.versions),
            "config": {"model": row.model, "tp": row.tp, "phase": row.phase, "count": row.count, "context": row.context},
            "seed": 0,
            "values": {"measured_s": row.seconds, "roofline_s": seconds, "error": seconds / row.seconds - 1},
        }


def roofline_s(shape: Shape, chip: Chip, row: Row) -> float:
    """The roofline's answer to a row.

    Raises:
      ConfigError: the shape is not published.
    """
    spec = next((spec for spec in BY_NAME.values() if Shape.of(spec) == shape), None)
    require(spec is not None, "model", row.model, "one of " + ", ".join(BY_NAME))
    assert spec is not None
    mesh = MeshSpec(chip=chip, tp=row.tp)
    if row.phase == "prefill":
        return roofline.prefill(spec, mesh, row.count, row.context).total_s
    return roofline.decode(spec, mesh, row.count, round(row.count * row.context)).total_s


FITTED = ("compute_frac", "memory_frac", "launch_s", "reduce_s")


def fit(table: CostTable) -> Chip:
    """The table's chip with what makes the mean square of log(roofline over measured) least; it reaches its ceilings at most."""
    shapes, best, factor = table.shapes, _chip(table), 1.3

    def loss(chip: Chip) -> float:
        return statistics.fmean(math.log(roofline_s(shapes[row.model], chip, row) / row.seconds) ** 2 for row in table.rows)

    while factor > 1.003:
        changed = [replace(best, **{name: getattr(best, name) * by}) for name in FITTED for by in (factor, 1 / factor)]
        found = min((chip for chip in changed if max(chip.compute_frac, chip.memory_frac) <= 1), key=loss)
        best, factor = (found, factor) if loss(found) < loss(best) else (best, math.sqrt(factor))
    return best


def _chip(table: CostTable) -> Chip:
    """The preset of the table's device.

    Raises:
      ConfigError: there is none.
    """
    chip = next((chip for chip in CHIPS.values() if of_chip(chip, table.device)), None)
    require(chip is not None, "device", table.device, "one of " + ", ".join(chip.name for chip in CHIPS.values()))
    assert chip is not None
    return chip


def summary(records: Sequence[dict]) -> str:
    """Errors by device, model, degree and phase, then of all."""
    head = ("device", "model", "tp", "phase", "steps", "median error", "worst", "bias", "the worst is")
    groups: dict[tuple, list[dict]] = {}
    for record in records:
        config = record["config"]
        for group in ((config["model"], config["tp"]), ("all", "all")):
            groups.setdefault((record["device"], *group, config["phase"]), []).append(record)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] == "all", item[0][3], *map(str, item[0])))
    return results.table(head, [(*group, *_errors(members)) for group, members in ordered])


def _errors(records: Iterable[dict]) -> tuple:
    errors = {record["values"]["error"]: record["config"] for record in records}
    worst = max(errors, key=abs)
    return (
        len(errors),
        f"{statistics.median(map(abs, errors)):.0%}",
        f"{worst:+.0%}",
        f"{statistics.median(errors):+.0%}",
        f"{errors[worst]['count']} x {errors[worst]['context']:g}",
    )


PAGE = """
# How far is the roofline from measured steps?

`muxjax profile` measured whole steps with random weights; the roofline of `muxjax/cost/roofline.py` knows the numbers of the model and
of the chip alone, and no constant of any model. The error is the roofline's seconds over the measured ones, less 1; the bias is its
median. A step is its new tokens (prefill) or sequences (decode) x the context of each. Made by `python -m scripts.bench_calibration`;
every step is in [runs.jsonl](runs.jsonl).

{summary}

Measured on:

{origins}
"""


def page(records: Sequence[dict]) -> str:
    """The README of the records."""
    origins = {f"- {one['device']}, JAX {one['versions']['jax']}, commit {one['commit']}" for one in records}
    return PAGE.format(summary=summary(records), origins="\n".join(sorted(origins)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, default=sorted(TABLES.glob("*.json")))
    parser.add_argument("--fit", action="store_true", help="print what the tables ask for, and write nothing")
    args = parser.parse_args()
    tables = args.tables
    require(bool(tables), "tables", 0, f"at least one: {TABLES} holds none")
    if args.fit:
        for path in tables:
            print(path.name, {name: f"{getattr(fit(read_table(path)), name):.3g}" for name in FITTED})
        return
    records = [record for path in tables for record in measure(read_table(path))]
    results.write_runs(QUESTION, "runs", records)
    results.write_readme(QUESTION, page(records))
    print(summary(records))


if __name__ == "__main__":
    main()
