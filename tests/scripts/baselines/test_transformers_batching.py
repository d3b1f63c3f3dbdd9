"""Continuous batching of transformers makes the tokens of its own `generate`, through our engine."""

import argparse
import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from scripts.baselines import options, transformers_batching
from scripts.baselines.engine import Request
from tests.scripts.baselines.models import greedy, save_model

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about itself


def arguments(folder):
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    transformers_batching.add_arguments(parser)
    return parser.parse_args([f"tiny={folder}", "--max-model-len=96", "--max-num-seqs=3"])


@pytest.mark.parametrize("streaming", [True, False])
def test_tokens_are_those_of_one_request_alone(tmp_path, streaming):
    model = save_model(tmp_path, "llama")
    requests = [Request([1, 2, 3], 6), Request([5], 9), Request([7, 8], 4), Request([9, 9, 9, 1], 12)]
    lines, made = [], {request: [] for request in requests}
    engine = transformers_batching.build(arguments(tmp_path), streaming=streaming, report=lines.append)
    try:
        for request in requests:
            engine.submit(request)
        while engine.busy:
            for request, token, last in engine.step():
                made[request].append(token)
                assert last == (len(made[request]) == request.max_tokens)
    finally:
        engine.close()
    assert json.loads(lines[-1])["label"] == "reference"
    assert list(made.values()) == [greedy(model, request.prompt, request.max_tokens) for request in requests]
