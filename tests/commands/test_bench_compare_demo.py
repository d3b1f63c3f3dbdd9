"""`muxjax bench compare` of real servers, started and stopped: the demo's models on a CPU, as a GPU's comparison has larger ones."""

import re
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.bench.records import read_runs
from muxjax.demo.run import shipped
from tests.xla_cache import XLA_CACHE

ROOT = Path(__file__).parents[2]
MODELS = [f"{folder.name}={folder}" for folder in shipped()[:2]]
LOAD = ["--rate", "10", "--num-prompts", "12", "--random-input-len", "12", "--random-output-len", "6", "--prompt-ids-below", "90"]
LOAD += ["--ignore-eos", "--warmup", "1", "--ttft", "60", "--tpot", "60"]
SIZES = ["--kv-cache-size", "8MiB", "--max-model-len", "64", "--max-num-seqs", "2", "--dtype", "float32"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_S", 10.0)  # a busy machine is no failure


def compared(*backends: str) -> None:
    """All were asked the same, and served it."""
    programs = ["--compilation-cache-dir", str(XLA_CACHE / "programs")]
    flags = [*LOAD, *SIZES, *programs, "--records", "r.jsonl", "--logs", "logs", "--backends", *backends]
    assert main(["bench", "compare", *MODELS, *flags]) == 0, "\n".join(log.read_text() for log in Path("logs").iterdir())
    runs = read_runs(Path("r.jsonl"))
    assert [run.begin.label for run in runs] == [backend.partition("=")[0] for backend in backends]
    first, *others = [sorted((one.intended_s, one.model, one.prompt_tokens, one.output_tokens) for one in run.records) for run in runs]
    assert len(first) == 12 and all(other == first for other in others)
    assert not any(record.error for run in runs for record in run.records)


def test_policies_of_muxjax_are_held_against_each_other(capsys):
    compared("mux", "turns")
    said = capsys.readouterr().out
    assert re.search(r"mux +10 .*\n.*turns +10 ", said)
    assert re.search(r"\nmux: muxjax as it comes: .*; ready in ", said)
    assert "turns: 0 of 8 greedy answers differ from those of mux" in said


def test_stacks_of_torch_make_the_same_tokens(capsys):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    compared("mux", "static=scripts.baselines.static_cache", "transformers=scripts.baselines.transformers_batching")
    said = capsys.readouterr().out
    for name in ("static", "transformers"):
        assert f"{name}: 0 of 8 greedy answers differ from those of mux" in said
