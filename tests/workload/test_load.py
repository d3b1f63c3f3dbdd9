"""The requests of a load, slower and faster."""

import pytest

from muxjax.commands.simulation.options import FORMATS
from muxjax.errors import ConfigError
from muxjax.workload import files, presets
from muxjax.workload.load import READERS, counted, drawn, recorded, renaming
from muxjax.workload.trace import Arrival

EIGHT = {f"burst-{i}": "ab"[i % 2] for i in range(8)}


def test_a_preset_at_four_times_its_rate_brings_four_times_the_requests_in_the_same_time():
    source = drawn(presets.by_name("burst").streams, 600.0, 0, EIGHT)
    slow, fast = source(1.0), source(4.0)
    assert {arrival.model for arrival in slow.arrivals} == {"a", "b"}
    assert slow.window_s == fast.window_s == slow.last_s == 600.0 and fast.arrivals[-1].time_s < 600.0
    expected = 600.0 * sum(presets.by_name("burst").rates.values())
    assert len(slow.arrivals) == pytest.approx(expected, rel=0.2) and len(fast.arrivals) == pytest.approx(4 * expected, rel=0.2)


def test_a_recorded_trace_is_replayed_faster_with_the_same_requests(tmp_path):
    files.write(tmp_path / "t.jsonl", [Arrival(2.0 * i, "old", 3, 4) for i in range(3)])
    load = recorded(tmp_path / "t.jsonl", "muxjax", {"old": "new"})(4.0)
    assert load.arrivals == [Arrival(0.5 * i, "new", 3, 4) for i in range(3)] and load.last_s == 1.0


def test_so_many_requests_come_at_the_rate_of_their_streams():
    streams = presets.by_name("burst").streams
    load = counted(streams, 2000, 0, EIGHT)(1.0)
    assert len(load.arrivals) == 2000 and {arrival.model for arrival in load.arrivals} == {"a", "b"}
    assert load.last_s == pytest.approx(2000 / 8, rel=0.3)
    assert counted(streams, 2000, 0, EIGHT)(2.0).last_s == load.last_s / 2


def test_the_flags_know_every_format_that_is_read():
    assert tuple(READERS) == FORMATS


@pytest.mark.parametrize("pairs", [["a"], ["=a"], ["a="], ["a=b", "a=c"]])
def test_a_renaming_that_is_none_is_refused(pairs):
    assert renaming(["a=b", "c=b"]) == {"a": "b", "c": "b"}
    with pytest.raises(ConfigError, match="rename must be"):
        renaming(pairs)
