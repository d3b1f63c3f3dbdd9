"""Page of the clocks: what was measured of each attack, against the goal."""

from typing import Any

from scripts import results

GOAL_S = 0.25
GOAL_GROWTH = 2.0
SPARE_BYTES = 32 * 2**20
"""Memory that is not held against a small body: threads, free lists, code that runs for the first time."""
_HEAD = ("attack", "sent", "answered", "/health p50", "most", "token p50", "most", "memory", "goal")


def page(records: list[dict[str, Any]]) -> str:
    """README.md of the measurement."""
    tables = "\n\n".join(_table(mib, [one for one in records if one["config"]["max_body_mib"] == mib]) for mib in _sizes(records))
    missed = [f"{_name(one)} ({', '.join(reasons)})" for one in records if (reasons := _missed(one["values"]))]
    loads = [one["values"]["load_average"] for one in records]
    return f"""# Can one client's requests stop the others' clock?

A server of three small models on {records[0]["device"]}. One client sends the dearest requests that it may, one kind after another, each
again and again for {records[0]["config"]["seconds"]:g} s, while a second one polls `/health` and a third reads streams of another model.
Goal: nobody waits longer than {GOAL_S * 1e3:.0f} ms for `/health` or for a token, the first of a stream included, and memory grows by no
more than {GOAL_GROWTH:g} times what was sent and answered (and {SPARE_BYTES // 2**20} MiB, whatever the size).
Made by `python -m scripts.clocks.run`; `tests/scripts/test_clocks.py` does the same with wider bounds.

{tables}

**{len(records) - len(missed)} of {len(records)} attacks are within the goal{"; missed: " + "; ".join(missed) if missed else ""}.**
"nothing" is what the machine itself does: the load average was {min(loads):.1f} to {max(loads):.1f}, the work of others included.
Memory is what the server grew by above what it had before the attack.
"""


def line(values: dict[str, Any]) -> list[str]:
    """A row of the table."""
    waits = [f"{values[what][at] * 1e3:.0f} ms" for what in ("health", "token") for at in ("p50_s", "max_s")]
    sizes = [f"{values[what] / 1e6:.1f} MB" for what in ("body_bytes", "answer_bytes")]
    return [values["attack"], *sizes, *waits, f"+{values['grown_bytes'] / 1e6:.0f} MB", ", ".join(_missed(values)) or "met"]


def _table(mib: int, records: list[dict[str, Any]]) -> str:
    return f"Bodies of up to {mib} MiB:\n\n{results.table(_HEAD, [line(one['values']) for one in records])}"


def _sizes(records: list[dict[str, Any]]) -> list[int]:
    return list(dict.fromkeys(one["config"]["max_body_mib"] for one in records))


def _name(record: dict[str, Any]) -> str:
    return f"{record['values']['attack']} at {record['config']['max_body_mib']} MiB"


def _missed(values: dict[str, Any]) -> list[str]:
    """Which parts of the goal."""
    sent = values["body_bytes"] + values["answer_bytes"]
    parts = {
        "health": values["health"]["max_s"] > GOAL_S,
        "token": values["token"]["max_s"] > GOAL_S,
        "memory": values["grown_bytes"] > GOAL_GROWTH * sent + SPARE_BYTES,
    }
    return [part for part, is_missed in parts.items() if is_missed]
