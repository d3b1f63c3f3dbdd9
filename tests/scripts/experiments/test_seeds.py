"""Several seeds of one load are one line: means, and how far they lie apart."""

from scripts.experiments.seeds import over_seeds, spread


def line(seed: int, scale: float, rps: float, *, valid: bool = True, trouble: str = "") -> dict:
    values = {
        "request_throughput": rps,
        "attainment": None,
        "valid": valid,
        "trouble": trouble,
        "rates": {"a": rps},
        "models": {"a": {"x": 2 * rps}},
    }
    return {"device": "d", "seed": seed, "config": {"backend": "mux", "scale": scale, "duration_s": 1.0}, "values": values}


def test_seeds_of_one_rate_are_one_line_of_means():
    merged = over_seeds([line(1, 1.0, 10.0), line(1, 2.0, 19.0), line(2, 1.0, 14.0, valid=False, trouble="late")])
    assert [one["config"]["scale"] for one in merged] == [1.0, 2.0]
    found = merged[0]["values"]
    assert found["request_throughput"] == 12.0 and found["rates"] == {"a": 12.0} and found["models"]["a"]["x"] == 24.0
    assert found["valid"] is False and found["trouble"] == "late"


def test_a_spread_is_told_where_there_are_several_seeds():
    one, two = over_seeds([line(1, 1.0, 10.0), line(1, 2.0, 19.0), line(2, 1.0, 14.0)])
    assert spread(one, "request_throughput", ".4g") == "12 (10 to 14)"
    assert spread(two, "request_throughput", ".4g") == "19" and spread(two, "attainment", ".1%") == ""
