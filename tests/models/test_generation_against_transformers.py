"""Greedy answers under a checkpoint's own preferences: those that transformers' `generate` gives from the same folder."""

import importlib.util
import json
import logging

import pytest
from safetensors.numpy import save_file

from muxjax.server.llms import LLMs
from muxjax.specs.config import read_spec
from tests.models.golden import seeded_tensors
from tests.programs import only_essential_programs
from tests.specs.test_tokens import write

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("needs torch and transformers, which pin Python: `.ci/run` installs them under 3.11", allow_module_level=True)

import torch
from transformers import AutoModelForCausalLM

PROMPT, COUNT = [3, 14, 15, 92, 65, 35], 12
CONFIG = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32", "vocab_size": 101, "hidden_size": 32},
    **{"intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, "eos_token_id": 100},
}
GREEDY = {"do_sample": False, "eos_token_id": 100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("model"), {"config.json": CONFIG})
    save_file(seeded_tensors(read_spec(path), 7), path / "model.safetensors", metadata={"format": "pt"})
    return path


def theirs(folder) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = torch.tensor([PROMPT])
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=COUNT)
    return tuple(answer[0, len(PROMPT) :].tolist())


def test_answers_are_those_of_generate(folder, tmp_path_factory, caplog):
    """One folder for each set of preferences, served together; each preference changes the answer that there is without it."""
    plain = _with(folder, tmp_path_factory, {"generation_config.json": GREEDY})
    first, second, third, *_ = expected = theirs(plain)
    wishes = {
        "suppress_tokens": [first],
        "bad_words_ids": [[first], [second, third]],
        "sequence_bias": [[[first], -50.0], [[17], 40.0]],
        "repetition_penalty": 3.0,
    }
    folders = {
        "plain": plain,
        "config": _with(folder, tmp_path_factory, {"config.json": CONFIG | {"do_sample": False, "suppress_tokens": [first]}}),
    }
    for name, value in wishes.items():
        folders[name] = _with(folder, tmp_path_factory, {"generation_config.json": GREEDY | {name: value}})
    ends = {"eos_token_id": [third, first], "min_new_tokens": 5}
    folders["ends"] = _with(folder, tmp_path_factory, {"generation_config.json": GREEDY | ends})
    folders["length"] = _with(
        folder, tmp_path_factory, {"generation_config.json": GREEDY | ends | {"min_new_tokens": None, "min_length": 9}}
    )
    answers = {name: theirs(path) for name, path in folders.items()}
    assert all(answer != expected for name, answer in answers.items() if name != "plain")
    with caplog.at_level(logging.WARNING), only_essential_programs(), LLMs(folders, kv_cache_bytes=2**22) as llms:
        ours = {name: llms.generate(name, [PROMPT], max_tokens=COUNT)[0].tokens for name in folders}
    assert ours == answers
    assert "not honoured" not in caplog.text


def _with(folder, tmp_path_factory, files):
    copy = tmp_path_factory.mktemp("preferences")
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    for name, values in files.items():
        (copy / name).write_text(json.dumps(values))
    return copy
