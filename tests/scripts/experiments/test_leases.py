"""What was measured in one lease is told together, and nothing else is held against each other."""

from scripts.experiments.leases import by_system, leases, told_of_each
from scripts.experiments.questions import BY_NAME
from scripts.experiments.section import rows


def line(commit: str, backend: str, scale: float, attainment: float, device: str = "NVIDIA H200") -> dict:
    config = {"backend": backend, "scale": scale, "duration_s": 20.0}
    return {
        "device": device,
        "commit": commit,
        "seed": 1,
        "config": config,
        "values": {"attainment": attainment, "rates": {"a": 10 * scale}},
    }


OLD = [line("old", "mux", 1, 1.0), line("old", "mux", 2, 0.5), line("old", "adbs", 1, 0.5), line("old", "turns", 1, 1.0)]
NEW = [line("new", "adbs", 1, 1.0), line("new", "mux", 3, 1.0), line("new", "turns", 1, 1.0)]


def told(lines) -> list[tuple[str, list[str]]]:
    return [(systems["mux"][0]["commit"], [name for name in systems if name != "mux"]) for systems in told_of_each(lines)]


def test_a_lease_is_a_card_and_a_tree():
    elsewhere = [line("old", "mux", 1, 1.0, device="NVIDIA H100")]
    assert leases(OLD + NEW + elsewhere) == [OLD, NEW, elsewhere]
    assert list(by_system(NEW)) == ["mux", "adbs", "turns"]


def test_another_system_is_told_where_it_was_last_asked_too_much_or_else_last():
    assert told(OLD + NEW) == [("old", ["adbs"]), ("new", ["turns"])]
    assert told(NEW + OLD) == [("old", ["adbs", "turns"])]


def test_a_lease_without_ours_tells_nothing():
    assert told([line("old", "adbs", 1, 1.0)]) == []


def test_ours_alone_is_told_as_it_was_last_where_nobody_else_was_measured():
    assert told(OLD[:2] + NEW[1:2]) == [("new", [])]
    ((_, _, *cells),) = rows(BY_NAME["long-tail"], told_of_each(NEW[1:2])[0])
    assert cells == ["30 or more", "", "", ""]


def test_the_readme_says_no_ratio_to_what_was_never_asked_too_much():
    old, new = told_of_each(OLD + NEW)
    question = BY_NAME["three-models"]
    ((_, _, *cells),) = rows(question, old)
    assert cells == ["10", "adbs", "under 10", "over 1.00"]
    ((_, _, *cells),) = rows(question, new)
    assert cells == ["30 or more", "turns", "10 or more", "unknown"]
