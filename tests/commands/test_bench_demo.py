"""`muxjax bench` of the demo's models, over HTTP and without."""

import json
import re
from dataclasses import replace
from pathlib import Path

from muxjax.__main__ import main
from muxjax.demo.run import demo_options, shipped
from muxjax.server.background import in_background
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE


def test_the_demo_is_measured_in_a_block_that_a_user_of_vllm_recognises(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_S", 10.0)  # a busy machine is no failure
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    options = replace(demo_options(shipped()), compilation_cache_dir=str(XLA_CACHE))
    with only_essential_programs():
        service = build_service(options, report=lambda line: None, progress=False)
    with in_background(service, HttpOptions(port=0)) as url:
        size = ["--random-input-len", "16", "--random-output-len", "6", "--ignore-eos", "--rate", "20", "--num-prompts", "12"]
        assert main(["bench", "serve", "--base-url", url, *size, "--warmup", "2", "--json", str(tmp_path / "r.json")]) == 0
    said = capsys.readouterr().out

    assert re.match(r"=+ Serving Benchmark Result =+\nSuccessful requests: +12 *\nFailed requests: +0 *\n", said)
    assert re.search(r"\n-+Time to First Token-+\nMean TTFT \(ms\): +\d", said)
    assert re.search(r"Total input tokens: +192 *\nTotal generated tokens: +72 *\n", said)
    found = json.loads(Path(tmp_path / "r.json").read_text())
    assert set(found["models"]) == {folder.name for folder in shipped()} and found["completed"] == 12
    assert 0 < found["median_tpot_ms"] < found["median_e2el_ms"]


def test_models_are_measured_without_a_server(tmp_path, capsys):
    sources = [f"{folder.name}={folder}" for folder in shipped()[:2]]
    size = ["--random-input-len", "16", "--random-output-len", "6", "--ignore-eos", "--num-prompts", "8", "--max-num-seqs", "8"]
    cache = ["--kv-cache-size", "1MiB", "--max-num-batched-tokens", "256", "--compilation-cache-dir", str(XLA_CACHE)]
    with only_essential_programs():
        assert main(["bench", "throughput", *sources, *size, *cache, "--json", str(tmp_path / "t.json")]) == 0
    said = capsys.readouterr().out

    assert re.match(r"Throughput: [\d.]+ requests/s, [\d.]+ total tokens/s, [\d.]+ output tokens/s\nTotal num prompt tokens:  128\n", said)
    found = json.loads(Path(tmp_path / "t.json").read_text())
    assert (found["num_requests"], found["total_output_tokens"]) == (8, 48)
    assert sum(own["num_requests"] for own in found["models"].values()) == 8
