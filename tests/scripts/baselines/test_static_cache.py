"""The static cache's tokens are those of transformers, whoever shares the steps."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from muxjax.specs import published
from scripts.baselines import attention, options, self_time, static_cache
from scripts.baselines.engine import Request
from tests.scripts.baselines.models import greedy, save_model

FAMILIES = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases, stretched": (
        "llama",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 1000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "mistral": ("mistral", {"sliding_window": None}),
}


def arguments(folder, **changed):
    """As a command line would have them, for small models."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    static_cache.add_arguments(parser)
    args = parser.parse_args([f"tiny={folder}", "--max-model-len=96", "--max-num-seqs=3", "--max-num-batched-tokens=32"])
    return argparse.Namespace(**{**vars(args), "attention": "matmul", "compile": "none", **changed})


def build(folder, **changed):
    return static_cache.build(arguments(folder, **changed), report=lambda line: None)


def drawn(*sizes):
    """Requests of random prompts, of (tokens, tokens of the answer)."""
    rng = np.random.default_rng(0)
    return [Request(rng.integers(0, 128, prompt).tolist(), answer) for prompt, answer in sizes]


def answers(engine, requests, *, at_steps=None):
    """Tokens of each, submitted before the step that is told; none is told for all at once."""
    made = {request: [] for request in requests}
    late = sorted(zip(at_steps or [0] * len(requests), range(len(requests)), strict=True))
    step = 0
    while late or engine.busy:
        while late and late[0][0] <= step:
            engine.submit(requests[late.pop(0)[1]])
        for request, token, last in engine.step():
            made[request].append(token)
            assert last == (len(made[request]) == request.max_tokens)
        step += 1
    return [made[request] for request in requests]


@pytest.mark.parametrize("model_type, variant", FAMILIES.values(), ids=FAMILIES)
def test_tokens_are_those_of_transformers(tmp_path, model_type, variant):
    model = save_model(tmp_path, model_type, **variant)
    requests = drawn((5, 12), (40, 9), (1, 30), (17, 1), (30, 20), (8, 2), (11, 25))
    found = answers(build(tmp_path), requests, at_steps=(0, 0, 3, 4, 9, 9, 30))
    assert found == [greedy(model, request.prompt, request.max_tokens) for request in requests]


@pytest.mark.parametrize("way", ["matmul", "sdpa"])
def test_all_ways_to_attend_make_the_same_tokens(tmp_path, way):
    model = save_model(tmp_path, "llama", max_position_embeddings=1024)
    requests = drawn((300, 8), (250, 12), (3, 4))
    engine = build(tmp_path, attention=way, max_model_len=1024)
    assert len(engine.steps.contexts) > 1
    assert answers(engine, requests) == [greedy(model, request.prompt, request.max_tokens) for request in requests]


@pytest.mark.gpu
def test_flash_attends_as_others_do():
    spec, device = replace(published.BY_NAME["llama-3.2-1b"], head_dim=128), options.device()
    q = torch.randn(5, spec.heads, 128, dtype=torch.bfloat16, device=device)
    keys, values = (attention.WAYS["flash"].empty_cache(7, 512, spec, device).normal_() for _ in range(2))
    used = torch.tensor([1, 512, 77, 128, 300], dtype=torch.int32, device=device)
    found = [way.decode(q, keys, values, way.rows(used, 512, 512)) for way in attention.WAYS.values()]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, atol=2e-2, rtol=2e-2)


@pytest.mark.gpu
def test_flash_prefills_each_prompt_alone():
    q, k, v = (torch.randn(200, heads, 128, dtype=torch.bfloat16, device="cuda") for heads in (32, 8, 8))
    starts = torch.tensor([0, 50, 51, 180, 180, 180], dtype=torch.int32, device="cuda")  # the last two are padding
    found = attention.prefill(q, k, v, starts, 200)[:180].cpu().float()
    plain = attention.prefill(q.cpu().float(), k.cpu().float(), v.cpu().float(), starts.cpu(), 200)[:180]
    torch.testing.assert_close(found, plain, atol=2e-2, rtol=2e-2)


def test_short_prompts_wait_for_more_of_them_and_no_longer(tmp_path):
    save_model(tmp_path, "llama")
    first, second, third = drawn((5, 30), (5, 4), (5, 4))
    engine = build(tmp_path, patience=3)
    engine.submit(first)
    engine.step()
    engine.submit(second)
    made = [request for _ in range(2) for request, _, _ in engine.step()]
    engine.submit(third)
    made += [request for _ in range(3) for request, _, _ in engine.step()]
    assert made.index(second) == made.index(third) - 1 == 4


@pytest.mark.filterwarnings("ignore")  # what a compiler is made of warns of its own parts
def test_compiled_pieces_make_the_same_tokens(tmp_path):
    save_model(tmp_path, "qwen2", num_hidden_layers=2)
    requests = drawn((5, 6), (9, 6))  # never one row alone, which would be programs of its own
    plain = answers(build(tmp_path, max_num_seqs=2), requests)
    assert answers(build(tmp_path, max_num_seqs=2, compile="default"), requests) == plain


def test_a_row_goes_on_where_it_was_moved_to(tmp_path):
    model = save_model(tmp_path, "llama")
    requests = drawn((5, 2), (6, 3), (7, 20))
    engine = build(tmp_path)
    assert engine.steps.sizes == (1, 2, 3)
    assert answers(engine, requests) == [greedy(model, request.prompt, request.max_tokens) for request in requests]


def test_an_answer_ends_at_its_stop_token_and_others_go_on(tmp_path):
    model = save_model(tmp_path, "llama")
    whole = greedy(model, [3, 1, 4], 20)
    stopped, other = Request([3, 1, 4], 20, frozenset({whole[5]})), Request([2, 7], 20)
    engine, made = build(tmp_path), {}
    engine.submit(stopped)
    engine.submit(other)
    while engine.busy:
        for request, token, last in engine.step():
            made.setdefault(request, []).append((token, last))
    end = whole.index(whole[5]) + 1
    assert made[stopped] == [(token, i == end - 1) for i, token in enumerate(whole[:end])]
    assert [token for token, _ in made[other]] == greedy(model, [2, 7], 20)


def test_what_is_cancelled_makes_no_more_tokens(tmp_path):
    save_model(tmp_path, "llama")
    engine = build(tmp_path, max_num_seqs=1)
    runs, waits, stays = drawn((5, 50), (5, 50), (5, 3))
    for request in (runs, waits, stays):
        engine.submit(request)
    engine.step()
    engine.cancel(runs)
    engine.cancel(waits)
    made = []
    while engine.busy:
        made += engine.step()
    assert [each.request for each in made] == [stays] * 3


@pytest.mark.parametrize("seed", range(5))
def test_whoever_comes_and_goes_others_have_the_tokens_they_would_have_alone(tmp_path, seed):
    save_model(tmp_path, "llama", num_hidden_layers=2)
    rng = np.random.default_rng(seed)
    sizes = [(int(rng.integers(1, 40)), int(rng.integers(1, 30))) for _ in range(30)]
    requests = [replace(request, stop=frozenset(rng.integers(0, 128, 5).tolist())) for request in drawn(*sizes)]
    alone = dict(zip(requests, map(until_stop, answers_alone(build(tmp_path, max_num_seqs=1), requests), requests), strict=True))
    engine, made, left = build(tmp_path, max_num_seqs=5, patience=int(rng.integers(3))), {request: [] for request in requests}, set()
    waiting = list(requests)
    while waiting or engine.busy:
        for _ in range(min(len(waiting), int(rng.integers(3)))):
            engine.submit(waiting.pop())
        for request, token, last in engine.step():
            assert request not in left
            made[request].append(token)
            assert last == (made[request] == alone[request])
        if rng.random() < 0.1:
            gone = requests[rng.integers(len(requests))]
            if gone not in waiting:
                engine.cancel(gone)
                left.add(gone)
    for request in requests:
        assert made[request] == alone[request][: len(made[request])]
        assert request in left or made[request] == alone[request]


def answers_alone(engine, requests):
    """One after another, whatever their stop tokens are."""
    return [answers(engine, [Request(request.prompt, request.max_tokens)])[0] for request in requests]


def until_stop(tokens, request):
    """Tokens up to the first that stops the request."""
    end = next((i + 1 for i, token in enumerate(tokens) if token in request.stop), len(tokens))
    return tokens[:end]


def test_steps_tell_what_they_take(tmp_path):
    save_model(tmp_path, "llama")
    engine, lines = build(tmp_path, load_format="dummy"), []
    engine.warm_up(report=lines.append)
    self_time.tell(engine.steps, rows=(1, 3, 8), context=64, report=lines.append)
    decodes = [line for line in map(json.loads, lines[2:]) if line["what"] == "decode"]
    assert [line["rows"] for line in decodes] == [3, 1]
    assert all(line["of_floor"] > 0 and line["context"] == 64 for line in decodes)
