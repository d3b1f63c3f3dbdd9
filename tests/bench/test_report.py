"""The block is the one that vLLM's users know, and so are the keys of its JSON."""

import json
import re

import pytest

from muxjax.bench import report
from muxjax.bench.summary import summary
from muxjax.bench.targets import Targets
from tests.bench.kit import failed, record, run

RUNS = [run(record("a"), record("b", 1.0), failed("b", 2.0))]
NO_TARGETS = Targets()


def told(runs=RUNS, targets=NO_TARGETS) -> list[str]:
    return list(report.text(summary(runs, targets), runs))


def test_the_block_has_vllms_lines():
    lines = told()
    block = lines[: lines.index("=" * 50) + 1]

    assert block[0] == "============ Serving Benchmark Result ============"
    assert "---------------Time to First Token----------------" in block
    assert "-----Time per Output Token (excl. 1st token)------" in block
    assert "---------------Inter-token Latency----------------" in block
    assert "----------------End-to-end Latency----------------" in block
    assert "Successful requests:                     2         " in block
    assert "Request throughput (req/s):              0.20      " in block
    assert "Mean TTFT (ms):                          200.00    " in block
    assert all(len(line) == 51 or set(line) & set("=-") for line in block if ":" in line)
    names = {match[1] for line in block if (match := re.match(r"(.+ \(.+\)):", line))}
    assert {"Benchmark duration (s)", "Total token throughput (tok/s)", "P99 ITL (ms)", "Median TPOT (ms)"} <= names


def test_what_follows_tells_models_targets_errors_and_trust():
    text = "\n".join(told([*RUNS, run(record(), seed=1, complete=False, late_s=0.5)], Targets(ttft_s=0.25)))

    assert "TTFT within 250 ms: 75.0%" in text and "1 failed: busy" in text
    assert re.search(r"^b +2 +1 +50.0%", text, re.MULTILINE)
    assert re.search(r"^requests/s +0\.15 ", text, re.MULTILINE)
    assert "INVALID" in text and "INCOMPLETE" in text
    assert "INVALID" not in "\n".join(told()) and "INCOMPLETE" not in "\n".join(told())


def test_json_has_vllms_keys_and_no_nan():
    values = json.loads(json.dumps(report.values(summary(RUNS, Targets()), RUNS), allow_nan=False))

    ours = {"date", "backend", "endpoint_type", "label", "num_prompts", "request_rate", "burstiness", "max_concurrency", "duration"}
    ours |= {"completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput", "request_goodput"}
    ours |= {"output_throughput", "total_token_throughput", "max_output_tokens_per_s", "max_concurrent_requests"}
    ours |= {f"{of}_{name}_ms" for of in ("mean", "median", "std", "p99") for name in ("ttft", "tpot", "itl", "e2el")}
    assert ours <= set(values)
    assert (values["completed"], values["failed"], values["num_prompts"], values["request_rate"]) == (2, 1, 3, 2.0)
    assert values["mean_ttft_ms"] == pytest.approx(200) and set(values["models"]) == {"a", "b"}
    nothing = [run(rate_rps=None)]
    empty = json.loads(json.dumps(report.values(summary(nothing, Targets()), nothing), allow_nan=False))
    assert empty["mean_ttft_ms"] is None and empty["request_rate"] == "inf"
