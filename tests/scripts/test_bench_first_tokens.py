"""The wait for a first token is measured from end to end, and told."""

from scripts.bench_first_tokens import page, record, record_busy


def test_a_first_token_is_waited_for_beside_streams():
    records = [record(streams, probes=3) for streams in (0, 4)]
    assert all(0 < one["values"]["wait_s"]["p50"] <= one["values"]["wait_s"]["p99"] < 10 for one in records)
    busy = record_busy(0.0, probes=3)
    assert 0 < busy["values"]["wait_s"]["p50"] < 10
    told = page([*records, busy])
    assert "| 4 | " in told and "**4 streams add" in told and "| what the engine says | " in told
