"""The wait for a first token is measured from end to end, and told."""

from scripts.bench_first_tokens import page, record


def test_a_first_token_is_waited_for_beside_streams():
    records = [record(streams, probes=3) for streams in (0, 4)]
    assert all(0 < one["values"]["wait_s"]["p50"] <= one["values"]["wait_s"]["p99"] < 10 for one in records)
    assert "| 4 | " in page(records) and "**4 streams add" in page(records)
