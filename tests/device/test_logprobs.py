"""Log-probabilities of tokens and prompts, against the dense model and against transformers."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.device.logprobs import SCORED_AT_A_TIME, prompt_logprobs, token_logprobs
from muxjax.types import MOST_LOGPROBS, Logprobs, Request, Sampling
from tests.device.test_greedy_goldens import Serving
from tests.engine.controls import SLOTS, ControlledModel
from tests.models.golden import make_model, read_golden

NAMES = ("llama3_scaled", "qwen3")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def assert_logprobs(logprobs: Logprobs, token: int, logits: np.ndarray, most: int, *, atol: float = 5e-4) -> None:
    """All that one place should say, within what the rounding of a CPU makes of a model with weights four times as large."""
    expected = log_softmax(logits)
    order = np.argsort(-expected, kind="stable")[:most]
    assert logprobs.token == token and len(logprobs.top) == most
    np.testing.assert_allclose(logprobs.logprob, expected[token], rtol=1e-4, atol=atol)
    np.testing.assert_allclose([value for _, value in logprobs.top], expected[order], rtol=1e-4, atol=atol)
    named = [expected[other] for other, _ in logprobs.top]  # equals may change places
    np.testing.assert_allclose(named, expected[order], rtol=1e-4, atol=atol)
    assert not logprobs.top or logprobs.top[0][1] == max(value for _, value in logprobs.top)


def test_the_likeliest_tokens_number_is_its_own_wherever_it_stands():
    """What is greedy is told by comparing the two."""
    logits = 3 * np.random.default_rng(0).standard_normal((16, 500)).astype(np.float32)
    found = token_logprobs(jnp.asarray(logits), jnp.asarray(logits.argmax(-1)))
    assert (np.asarray(found.logprob_N) == np.asarray(found.top_logprob_NK)[:, 0]).all()
    assert found.top_token_NK.shape == (16, MOST_LOGPROBS) and (np.asarray(found.top_token_NK)[:, 0] == logits.argmax(-1)).all()
    np.testing.assert_allclose(found.logprob_N, log_softmax(logits).max(-1), rtol=1e-5)


@pytest.mark.parametrize("values", [3, 1000])
def test_the_likeliest_are_found_in_order_the_first_of_equals_first(values):
    """Many are equal; and a vocabulary may have fewer than are asked for."""
    for vocab in (7, 300):
        logits = np.random.default_rng(values).integers(-values, values, (20, vocab)).astype(np.float32)
        found = token_logprobs(jnp.asarray(logits), jnp.zeros(20, jnp.int32))
        expected = np.argsort(-logits, axis=-1, kind="stable")[:, :MOST_LOGPROBS]
        assert (np.asarray(found.top_token_NK) == expected).all()


@pytest.mark.parametrize("tokens", [8, SCORED_AT_A_TIME, SCORED_AT_A_TIME + 8, 3 * SCORED_AT_A_TIME])
def test_scores_of_pieces_are_those_of_the_whole(tokens):
    random = np.random.default_rng(1)
    hidden, head = random.standard_normal((tokens, 12)).astype(np.float32), random.standard_normal((12, 50)).astype(np.float32)
    follow = random.integers(0, 50, tokens)
    found = prompt_logprobs(lambda hidden_BM: hidden_BM @ head, jnp.asarray(hidden), jnp.asarray(follow))
    expected = log_softmax(hidden @ head)
    np.testing.assert_allclose(found.logprob_N, expected[np.arange(tokens), follow], atol=1e-4)
    np.testing.assert_allclose(found.top_logprob_NK, -np.sort(-expected)[:, :MOST_LOGPROBS], atol=1e-4)
    assert np.abs(np.asarray(found.logprob_N) - expected[np.arange(tokens), np.roll(follow, 1)]).max() > 0.1  # one off is noticed


@pytest.fixture(scope="module")
def model():
    return ControlledModel()


ASKED = {"none": (None, None), "own": (0, None), "five": (5, 3), "all": (20, 20), "prompt": (None, 0)}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_gets_what_it_asked_for_of_the_models_own_distribution(model, temperature):
    """Whatever is asked of the drawing; prompts are of one token, and of up to three chunks."""
    settings = {"temperature": temperature, "presence_penalty": 1.0, "logit_bias": ((7, 5.0),), "max_tokens": 6}
    lengths = dict(zip(ASKED, (9, 30, 17, 41, 1), strict=True))
    requests = [
        Request(
            id=name,
            model="m",
            prompt=tuple((3 * i * i + len(name)) % 64 for i in range(lengths[name])),
            sampling=Sampling(**settings, logprobs=logprobs, prompt_logprobs=prompt_logprobs),
            arrival_s=0.0,
        )
        for name, (logprobs, prompt_logprobs) in ASKED.items()
    ]
    assert len(requests) > SLOTS
    outputs, _ = model.run(requests)
    for request in requests:
        assert_answered(model, request, outputs[request.id])


def assert_answered(model: ControlledModel, request: Request, outputs) -> None:
    text, (logprobs, prompt_logprobs) = list(request.prompt), ASKED[request.id]
    first, *others = outputs
    assert not any(other.prompt_logprobs for other in others) and (first.prompt_logprobs is None) == (prompt_logprobs is None)
    if prompt_logprobs is not None:
        assert len(first.prompt_logprobs) == len(text) - 1
        for i, each in enumerate(first.prompt_logprobs, 1):
            assert_logprobs(each, text[i], model.logits(text[:i]), prompt_logprobs)
    for output in outputs:
        assert (output.logprobs is None) == (logprobs is None)
        if logprobs is not None:
            assert_logprobs(output.logprobs, output.token, model.logits(text), logprobs)
        text.append(output.token)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make_model(name, tmp_path_factory.mktemp("models") / name, read_golden(name).seed) for name in NAMES}


def test_prompts_score_as_transformers_scored_them(folders):
    """At the positions of which the goldens have logits, of a prompt that is the whole text; and as transformers does here, if it can."""
    with Serving(folders, NAMES) as serving:
        for name in NAMES:
            golden = read_golden(name)
            prompt = golden.longest[:-2]
            sampling = Sampling(temperature=0.0, max_tokens=1, logprobs=5, prompt_logprobs=5)
            serving.built.engine.submit(Request(id=name, model=name, prompt=prompt, sampling=sampling, arrival_s=0.0))
            (output,) = serving.said.get(timeout=120)
            held = [(position, row) for row, position in enumerate(golden.positions) if position + 1 < len(prompt)]
            assert len(held) > 3
            for position, row in held:
                assert_logprobs(output.prompt_logprobs[position], prompt[position + 1], golden.logits[row], 5, atol=2e-4)
            with pytest.raises(AssertionError):
                assert_logprobs(output.prompt_logprobs[held[0][0] + 1], prompt[held[0][0] + 1], golden.logits[0], 5, atol=2e-4)


def test_whole_prompts_score_as_transformers_does_now(folders):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    name = NAMES[0]
    prompt = read_golden(name).longest[:90]
    with torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32)
        logits = model(torch.tensor([prompt])).logits[0].numpy()
    with Serving(folders, [name]) as serving:
        sampling = replace(Sampling(temperature=0.7, max_tokens=1), logprobs=3, prompt_logprobs=4)
        serving.built.engine.submit(Request(id="r", model=name, prompt=prompt, sampling=sampling, arrival_s=0.0))
        (output,) = serving.said.get(timeout=120)
    for i, each in enumerate(output.prompt_logprobs):
        assert_logprobs(each, prompt[i + 1], logits[i], 4, atol=2e-4)
    assert_logprobs(output.logprobs, output.token, logits[-1], 3, atol=2e-4)
