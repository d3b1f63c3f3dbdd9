"""Arrival processes have the rate and the variation they claim, from the very start of a window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import ConfigError
from muxjax.workload.arrivals import Deterministic, Gamma, OnOff, Poisson

RATES = st.floats(1e-3, 200.0)
PROCESSES = st.one_of(
    st.builds(Poisson, rate_rps=RATES),
    st.builds(Gamma, rate_rps=RATES, cv=st.floats(0.01, 20.0)),
    st.builds(OnOff, rate_rps=RATES, on_s=st.floats(0.1, 50.0), off_s=st.floats(0.1, 50.0)),
    st.builds(Deterministic, rate_rps=RATES),
)
SEVERAL = [Poisson(rate_rps=50.0), Gamma(rate_rps=50.0, cv=0.5), Gamma(rate_rps=50.0, cv=3.0), OnOff(rate_rps=50.0, on_s=0.5, off_s=2.0)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cv(times: np.ndarray) -> float:
    gaps = np.diff(times)
    return gaps.std() / gaps.mean()


@given(PROCESSES, st.floats(1e-3, 60.0), st.integers(0, 2**32))
def test_times_ascend_within_the_window_and_follow_from_the_seed(process, duration_s, seed):
    times = process.times(duration_s, rng(seed))

    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times < duration_s)).all()
    assert (times == process.times(duration_s, rng(seed))).all()


@pytest.mark.parametrize("process", SEVERAL, ids=str)
def test_a_long_window_has_the_rate_and_the_variation(process):
    times = process.times(4000.0, rng())

    assert len(times) == pytest.approx(200_000, rel=0.03)
    assert cv(times) == pytest.approx(getattr(process, "cv", 1.0), rel=0.05)


@pytest.mark.parametrize("process", [*SEVERAL[1:], OnOff(rate_rps=50.0, on_s=2.0, off_s=0.5)], ids=str)
def test_evenly_random_arrivals_would_be_noticed(process):
    assert cv(Poisson(rate_rps=50.0).times(4000.0, rng())) != pytest.approx(process.cv, rel=0.05)


@pytest.mark.parametrize("process", SEVERAL, ids=str)
def test_short_windows_have_the_rate_too(process):
    draws = rng()
    found = np.mean([len(process.times(0.2, draws)) for _ in range(4000)])

    assert found == pytest.approx(10.0, rel=0.07)


def test_a_window_that_opened_on_an_arrival_would_be_noticed():
    draws, shape = rng(), 3.0**-2
    gaps = draws.standard_gamma(shape, (4000, 400)) / shape / 50.0
    found = np.mean(np.sum(np.cumsum(gaps, axis=1) < 0.2, axis=1))

    assert found != pytest.approx(10.0, rel=0.07)


def test_a_gap_longer_than_the_window_leaves_it_empty():
    assert len(Gamma(rate_rps=1e-12, cv=100.0).times(10.0, rng())) == 0


def test_on_and_off_is_silent_for_its_share_of_the_time():
    process = OnOff(rate_rps=20.0, on_s=10.0, off_s=30.0)
    silent = np.bincount(process.times(40_000.0, rng()).astype(int), minlength=40_000) == 0

    assert process.on_frac == 0.25
    assert process.peak_rps == 80.0
    assert silent.mean() == pytest.approx(0.75 * np.exp(-1 / 30), abs=0.03)  # a whole second within an off phase


def test_deterministic_arrivals_are_evenly_spaced_from_zero():
    assert Deterministic(rate_rps=4.0).times(1.0, rng()).tolist() == [0.0, 0.25, 0.5, 0.75]
    assert Deterministic(rate_rps=0.1).times(1.0, rng()).tolist() == [0.0]


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize(
    "make",
    [
        Poisson,
        Deterministic,
        lambda rate_rps: Gamma(rate_rps=rate_rps, cv=1.0),
        lambda rate_rps: OnOff(rate_rps=rate_rps, on_s=1.0, off_s=1.0),
    ],
)
def test_a_rate_that_is_not_over_zero_and_finite_is_an_error(make, rate):
    with pytest.raises(ConfigError, match=f"rate_rps must be over 0, to 100000, got {rate}"):
        make(rate_rps=rate)


@pytest.mark.parametrize("cv", [0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_variation_out_of_its_limits_is_an_error(cv):
    with pytest.raises(ConfigError, match=r"cv must be 0\.01 to 100, got"):
        Gamma(rate_rps=1.0, cv=cv)


@pytest.mark.parametrize("field, value", [("on_s", 0.0), ("off_s", float("nan")), ("on_s", float("inf")), ("off_s", 1e9)])
def test_phases_out_of_their_limits_are_an_error(field, value):
    with pytest.raises(ConfigError, match=f"{'peak_rps' if value == 1e9 else field} must be"):
        OnOff(**{"rate_rps": 1.0, "on_s": 1.0, "off_s": 1.0, field: value})
