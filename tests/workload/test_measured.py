import pytest

from muxjax.errors import ConfigError
from muxjax.server.telemetry.metrics import Metrics
from muxjax.types import Finish, Request, Sampling
from muxjax.workload.measured import CameFor, Counts, came_between, counts_of
from tests.fakes import FakeEngine


def test_counts_are_those_of_the_servers_own_metrics():
    engine = FakeEngine(["a", "b"])
    metrics = Metrics(engine.unit_stats)
    for i in range(3):
        request = Request(id=str(i), model="a", prompt=(1,) * 10, sampling=Sampling(), arrival_s=0.0)
        meter = metrics.request(request, lambda record: None)
        meter.started(0.1)
        for at_s in (0.2, 0.3):
            meter.tokens([at_s])
        meter.end(Finish.LENGTH, 0.3)
    engine.submit(Request(id="runs", model="b", prompt=(1,), sampling=Sampling(), arrival_s=0.0))
    counts = counts_of(metrics.exposition().decode())
    assert counts == {"a": Counts(3, 30, 6), "b": Counts(1, 0, 0)}


def test_what_came_is_the_difference_over_the_time():
    before, after = {"a": Counts(10, 100, 50)}, {"a": Counts(40, 1000, 650), "b": Counts(4, 8, 12)}
    assert came_between(before, after, 10.0) == {"a": CameFor(3.0, 30.0, 20.0), "b": CameFor(0.4, 2.0, 3.0)}


def test_a_model_for_which_nothing_came_keeps_a_place():
    assert came_between({"a": Counts(7, 70, 7)}, {"a": Counts(7, 70, 7)}, 10.0) == {"a": CameFor(0.05, None, None)}


def test_a_server_that_began_anew_is_told():
    with pytest.raises(ConfigError, match="counts of a went down"):
        came_between({"a": Counts(7, 70, 7)}, {"a": Counts(1, 10, 1)}, 10.0)


def test_what_are_no_metrics_is_told():
    with pytest.raises(ConfigError, match="not in Prometheus' format"):
        counts_of("<html>\nnot found {\n</html>")
