import json
from pathlib import Path

import pytest

from muxjax.server import build
from tests.commands.wrong import PLACEMENT, PROBLEM

MODEL = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1}
MODEL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """The current folder is one that nobody else writes to, and which is soon looked through."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Good inputs of every command, in the current folder; whatever wants to load a model has found nothing wrong."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MUXJAX_API_KEY", "MUXJAX_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    Path("problem.yaml").write_text(PROBLEM)
    Path("placement.json").write_text(json.dumps(PLACEMENT))
    Path("notes.txt").write_text("what a user would miss")
    Path("in.jsonl").write_text("{}\n")
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps(MODEL))

    def load(*args, **kwargs):
        raise AssertionError("nothing was found to be wrong")

    monkeypatch.setattr(build, "build_service", load)
    monkeypatch.setattr("muxjax.commands.batch.run_batch.build_service", load)
    return tmp_path
