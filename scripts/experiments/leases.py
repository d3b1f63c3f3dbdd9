"""Lines of one lease, which alone are held against each other: what was measured on one card, of one tree."""

from collections.abc import Sequence

from scripts.experiments.seeds import over_seeds
from scripts.experiments.verdicts import BEST, Line, Systems, is_bounded


def leases(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines of each, in the order in which they were measured; seeds as one."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        found.setdefault((line["device"], line["commit"]), []).append(line)
    return [over_seeds(own) for own in found.values()]


def by_system(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Lines of each, by rate; the best one's first."""
    found: dict[str, list[Line]] = {}
    for line in sorted(lines, key=lambda line: line["config"]["scale"]):
        found.setdefault(line["config"]["backend"], []).append(line)
    return {name: found[name] for name in sorted(found, key=lambda name: (name != BEST, name))}


def told_of_each(lines: Sequence[Line]) -> list[Systems]:
    """Ours with the others of its lease: each in the last one that found where it fails, or in the last where none did. Ours
    alone, as it was measured last, where nobody else was."""
    having = [systems for systems in map(by_system, leases(lines)) if BEST in systems]
    at: dict[str, int] = {}
    for place, systems in enumerate(having):
        for name, own in systems.items():
            if name != BEST and (is_bounded(own) or name not in at or not is_bounded(having[at[name]][name])):
                at[name] = place
    chosen = ((place, [name for name in systems if at.get(name) == place]) for place, systems in enumerate(having))
    beside: list[Systems] = [{name: having[place][name] for name in (BEST, *others)} for place, others in chosen if others]
    return beside or [{BEST: systems[BEST]} for systems in having[-1:]]
