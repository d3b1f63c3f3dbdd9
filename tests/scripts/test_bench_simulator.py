"""The page on the simulator's truth says how far each figure is from what was measured."""

import pytest

from scripts.bench_simulator import GOAL, TURNS, WAYS, error, page

FIGURES = ("requests_per_s", "ttft_p50_s", "ttft_p99_s", "tpot_8b_s", "tpot_3b_s", "tpot_1b_s", "padding")


def lines(rate: float) -> list[dict]:
    return [
        {"config": {"way": way.name, "load": load}, "values": dict.fromkeys(FIGURES, 1.0) | {"requests_per_s": rate * scale}}
        for way in WAYS
        for load in ("x1", "x3")
        for scale in (0.9, 1.1)
    ]


def test_an_error_is_of_the_mean_over_seeds():
    *_, measured, simulated, half, off = error("x1", "requests_per_s", lines(105.0), 100.0)
    assert (measured, simulated, half, off) == pytest.approx((100.0, 105.0, 10.5, 0.05))
    assert error("x1", "requests_per_s", lines(111.0), 100.0)[-1] > GOAL


def test_the_page_counts_the_figures_that_are_near():
    measured = {"source": "somewhere.", "x1": {"requests_per_s": 100.0}, "x3": {"requests_per_s": 90.0}}
    text = page(lines(105.0), measured)
    assert "1 of 2 figures are within 10%" in text and "+5.0%" in text and "+16.7%" in text
    assert TURNS.name in text
