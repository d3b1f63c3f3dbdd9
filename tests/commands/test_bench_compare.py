"""`muxjax bench compare` of servers that make tokens up, each a module of its own."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.bench.records import read_runs
from muxjax.commands.bench.fleet import fleet_of
from muxjax.demo.run import shipped
from muxjax.engine.model.plan import ITEM_BYTES
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.specs.config import read_spec
from muxjax.workload.load import Load
from muxjax.workload.trace import Arrival

ROOT = Path(__file__).parents[2]
GOOD, OTHER = "good=tests.bench.backends.server", "other=tests.bench.backends.server"
ODD, DYING = "odd=tests.bench.backends.odd", "dying=tests.bench.backends.dying"
MODELS = [f"{folder.name}={folder}" for folder in shipped()[:2]]
LOAD = ["--rate", "40", "--num-prompts", "8", "--random-input-len", "8", "--random-output-len", "3", "--warmup", "0", "--ttft", "60"]
CACHE = ["--kv-cache-size", "8MiB"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_S", 10.0)  # a busy machine is no failure


def compare(*flags: str, backends: Sequence[str] = (GOOD,)) -> int:
    return main(["bench", "compare", *MODELS, *LOAD, *CACHE, "--records", "r.jsonl", "--logs", "logs", "--backends", *backends, *flags])


def rows(said: str) -> list[str]:
    """Names in the table."""
    return [line.split()[0] for line in said.splitlines() if re.match(r"[\w.-]+ +\d", line)]


def measured() -> list[tuple[str, float, int, bool]]:
    return [(run.begin.label, run.begin.scale, run.begin.seed, run.complete) for run in read_runs(Path("r.jsonl"))]


def test_what_was_measured_is_not_measured_again(capsys):
    flags = ["--rate-scales", "1", "2", "--seeds", "0", "1"]
    assert compare(*flags, backends=[GOOD, OTHER]) == 0
    first, before = capsys.readouterr().out, Path("r.jsonl").read_bytes()
    assert rows(first) == ["good", "good", "other", "other"] and "other: 0 of 8 greedy answers differ from those of good" in first
    assert measured() == [(name, scale, seed, True) for name in ("good", "other") for scale in (1, 2) for seed in (0, 1)]

    assert compare(*flags, backends=[GOOD, OTHER]) == 0
    again = capsys.readouterr().out
    assert Path("r.jsonl").read_bytes() == before and "ready in" not in again
    assert again.splitlines()[:5] == first.splitlines()[:5]  # the table


def test_only_what_is_missing_is_measured_and_only_what_is_asked_is_told(capsys):
    compare("--rate-scales", "1", "2")
    capsys.readouterr()
    assert compare("--rate-scales", "2", "3") == 0
    assert [scale for _, scale, _, _ in measured()] == [1, 2, 3]
    assert rows(capsys.readouterr().out) == ["good", "good"]


@pytest.mark.parametrize("other", [["--kv-cache-size", "9MiB"], ["--max-num-seqs", "3"], ["--random-output-len", "4"]])
def test_runs_of_another_fleet_or_load_are_others(other):
    compare()
    assert compare(*other) == 0
    assert measured() == [("good", 1, 0, True)] * 2


def test_a_backend_that_fails_does_not_stop_the_others(capsys):
    assert compare(backends=["sglang", "none=no.such.module", GOOD]) == 1
    said = capsys.readouterr().out
    assert rows(said) == ["good"]
    assert re.search("sglang: .*; NOT RUN: sglang is not installed", said)
    assert re.search(r"none: .*; NOT RUN: no\.such\.module is not installed", said)


def test_a_server_that_is_killed_ends_the_run_which_does_not_count(capsys):
    assert compare("--num-prompts", "60", backends=[DYING, GOOD]) == 1
    said = capsys.readouterr().out
    assert rows(said) == ["good"] and re.search(r"dying: .*; NOT RUN TO ITS END: \w+ was ended by SIGKILL", said)
    assert "(its servers' logs are in logs)" in said
    assert measured() == [("dying", 1, 0, False), ("good", 1, 0, True)]


def test_other_words_are_counted(capsys):
    assert compare(backends=[GOOD, ODD]) == 0
    assert "odd: 8 of 8 greedy answers differ from those of good" in capsys.readouterr().out


def test_no_rate_is_tried_beyond_the_first_that_is_not_good_enough():
    assert compare("--rate-scales", "3", "2", "1", "--ttft", "1e-6", "--enough", "0.5") == 0
    assert [scale for _, scale, _, _ in measured()] == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_interrupted_leaves_nobody_behind_and_keeps_what_was_measured(number):
    flags = [*LOAD, *CACHE, "--records", "r.jsonl", "--seeds", "0", "1", "--rate", "40", "--num-prompts", "200"]
    flags += ["--backends", GOOD, OTHER]
    asked = [sys.executable, "-m", "muxjax", "bench", "compare", *MODELS, *flags]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        while bench.poll() is None and begun() < 2:
            time.sleep(0.05)
        servers = children(bench.pid)
        bench.send_signal(number)
        said, complained = bench.communicate(timeout=60)
    assert bench.returncode == 130 and "Traceback" not in complained, complained
    assert rows(said) == ["good"] and "INCOMPLETE" in said and "good: " in said and "interrupted" in said
    assert len(servers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in servers)
    assert [complete for _, _, _, complete in measured()] == [True, False]


def begun() -> int:
    """Runs."""
    return Path("r.jsonl").read_bytes().count(b'"muxjax_bench"') if Path("r.jsonl").exists() else 0


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


WRONG = {
    "twice": (["--backends", GOOD, GOOD], "backends must be named once each"),
    "nobody": (["--backends", "nobody"], "backends must be of mux, lanes"),
    "scales": (["--rate-scales", "0"], "rate_scales must be different ones"),
    "scales twice": (["--rate-scales", "1", "1"], "rate_scales must be different ones"),
    "enough": (["--enough", "2"], "enough must be 0 to 1"),
    "ready": (["--ready", "0"], "ready_s must be over 0"),
    "strangers": (["--workload", "burst"], "model must be among"),
    "no room": (["--kv-cache-size", "4KiB"], "kv_cache_size must be at least"),
    "models of others": (["--model", "a"], "unrecognized arguments: --model"),
    "policies": (["--policy", "adbs"], "unrecognized arguments: --policy"),
    "records": (["--records", "notes.txt"], "must be the beginning of a run"),
    "records that cannot be written": (["--records", "."], "cannot be written: Is a directory"),
}


@pytest.mark.parametrize("flags, said", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_before_anything_is_started(flags, said, capsys):
    Path("notes.txt").write_text("what a user would miss\n")
    assert main(["bench", "compare", *MODELS, *LOAD, *CACHE, *flags]) == 2
    assert said in capsys.readouterr().err and Path("notes.txt").read_text() == "what a user would miss\n"


def test_a_cache_must_be_said(capsys):
    assert main(["bench", "compare", *MODELS, *LOAD]) == 2
    assert "kv_cache_size must be given" in capsys.readouterr().err


FIRST, SECOND = (ModelOptions(name=folder.name, path=folder, max_model_len=64, max_num_seqs=4) for folder in shipped()[:2])
ASKED = Load(arrivals=[Arrival(0.0, FIRST.name, 30, 10), Arrival(1.0, FIRST.name, 20, 20)], window_s=1.0)


def test_who_is_asked_more_has_more_and_everybody_has_room_for_a_longest_sequence():
    first, second = (fleet := fleet_of(UnitOptions(models=(FIRST, SECOND), kv_cache_bytes=2**23), ASKED, 0)).members
    assert second.cache_share * 2**23 == pytest.approx(256 * second.token_bytes)
    assert first.cache_share + second.cache_share == pytest.approx(1)
    assert (first.compute_share, second.compute_share) == (1, 0)
    assert (fleet.max_model_len, fleet.max_num_seqs, fleet.dummy) == (64, 4, False)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"dtype": "float32"}, "dtype must be the same for all models"),
        ({"max_model_len": 32}, "max_model_len must be the same for all models"),
        ({"max_model_len": None}, "max_model_len must be the same for all models"),
        ({"max_num_seqs": 5}, "max_num_seqs must be the same for all models"),
        ({"load_format": "dummy"}, "load_format must be the same for all models"),
        ({"weight": 2.0}, "weight must be left out: not every backend has it"),
    ],
)
def test_models_of_different_options_are_refused(changed, said):
    with pytest.raises(ConfigError, match=said):
        fleet_of(UnitOptions(models=(FIRST, replace(SECOND, **changed)), kv_cache_bytes=2**23), ASKED, 0)


def test_options_that_not_every_backend_has_are_refused():
    with pytest.raises(ConfigError, match="policy must be left out: not every backend has it"):
        fleet_of(UnitOptions(models=(FIRST,), kv_cache_bytes=2**23, policy="adbs"), ASKED, 0)


def test_models_that_name_no_length_have_the_shortest():
    models = [replace(model, max_model_len=None) for model in (FIRST, SECOND)]
    assert fleet_of(UnitOptions(models=tuple(models), kv_cache_bytes=2**24), ASKED, 0).max_model_len >= 64


def test_weights_and_cache_are_counted_in_the_bits_that_they_have():
    def one(**changed):
        return fleet_of(UnitOptions(models=(replace(FIRST, **changed),), kv_cache_bytes=2**23), ASKED, 0)

    (wide,), (narrow,) = one().members, one(quantization="fp8", kv_cache_dtype="fp8").members
    spec = read_spec(FIRST.path, quantization="fp8")
    assert narrow.weight_bytes == int(spec.weight_bytes(ITEM_BYTES[spec.dtype])) < wide.weight_bytes
    assert narrow.token_bytes == spec.layers * spec.kv_elements == wide.token_bytes // ITEM_BYTES[spec.dtype]
    assert (one().quantization, one(quantization="fp8").quantization, one(kv_cache_dtype="fp8").kv_cache_dtype) == (None, "fp8", "fp8")


@pytest.mark.parametrize("changed", [{"quantization": "fp8"}, {"kv_cache_dtype": "fp8"}])
def test_all_models_are_held_alike(changed):
    with pytest.raises(ConfigError, match="must be the same for all models"):
        fleet_of(UnitOptions(models=(FIRST, replace(SECOND, **changed)), kv_cache_bytes=2**23), ASKED, 0)


def test_bits_are_flags(capsys):
    assert compare("--quantization", "fp8", "--kv-cache-dtype", "fp8", backends=["llama.cpp", GOOD]) == 1
    begun = [run.begin.load["fleet"] for run in read_runs(Path("r.jsonl"))] if Path("r.jsonl").exists() else []
    assert [(fleet["quantization"], fleet["kv_cache_dtype"]) for fleet in begun] == [("fp8", "fp8")], capsys.readouterr().out
