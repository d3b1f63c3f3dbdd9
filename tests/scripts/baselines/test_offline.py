"""Requests through a baseline without a server: lengths, and what a run tells."""

import json
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from scripts.baselines import offline
from tests.scripts.baselines.models import save_model

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about itself


def test_lengths_are_drawn_around_their_means_and_cut():
    sizes = offline.draw(4000, mean_in=220, mean_out=100, max_len=20000, seed=0)
    assert sum(sizes.prompts) / 4000 == pytest.approx(220, rel=0.1)
    assert sum(sizes.answers) / 4000 == pytest.approx(100, rel=0.1)
    cut = offline.draw(4000, mean_in=220, mean_out=100, max_len=256, seed=0)
    assert (min(cut.prompts), max(cut.prompts)) == (offline.LEAST, 128)


@pytest.mark.parametrize("engine", ["static_cache", "transformers_batching"])
def test_a_run_tells_its_tokens(tmp_path, monkeypatch, capsys, engine):
    save_model(tmp_path, "llama")
    lengths = tmp_path / "lengths.jsonl"
    lengths.write_text('{"prompt_tokens": 5, "output_tokens": 3}\n{"prompt_tokens": 9, "output_tokens": 1}\n\n')
    options = ["--lengths", str(lengths), "--max-model-len=64", "--max-num-seqs=2", "--repeats=1"]
    monkeypatch.setattr(sys, "argv", ["offline", engine, str(tmp_path), *options])
    offline.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["requests"], told["prompt_tokens"], told["output_tokens"]) == (2, 14, 4)
    assert told["tokens_per_s"] > 0
