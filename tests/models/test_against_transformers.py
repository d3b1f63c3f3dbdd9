"""The goldens' models with other weights, live, where torch and transformers are installed."""

import importlib.util

import numpy as np
import pytest

from muxjax.models.weights import load
from muxjax.specs.config import read_spec
from tests.models.golden import NAMES, dense_logits, make_model, worst_row

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("needs torch and transformers, which pin Python: `.ci/run` installs them under 3.11", allow_module_level=True)

from tests.models.torch_reference import TorchModel

SEED = 1234


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_greedy_tokens_equal_those_of_transformers(tmp_path, name):
    folder = make_model(name, tmp_path, SEED)
    spec, theirs = read_spec(folder), TorchModel(folder)
    prompt = tuple(np.random.RandomState(SEED).randint(0, spec.vocab, spec.max_len - 64).tolist())
    tokens = prompt + theirs.greedy(prompt, 64)
    ours = dense_logits(spec, load(folder, spec, progress=False), tokens)
    assert worst_row(ours, theirs.logits(tokens)) < 1e-5
    best = np.partition(ours, -2)[:, -2:]
    decided = best[:, 1] - best[:, 0] > 1e-5 * np.abs(ours).max(-1)
    agree = ours.argmax(-1)[len(prompt) - 1 : -1] == np.array(tokens[len(prompt) :])
    assert (agree | ~decided[len(prompt) - 1 : -1]).all()


def test_transformers_reads_every_tensor_and_lacks_none(tmp_path):
    for name in NAMES:
        theirs = TorchModel(make_model(name, tmp_path / name, SEED))
        assert theirs.mismatched == (), name
