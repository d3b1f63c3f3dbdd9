"""Pooled hidden states: those of the model, whatever chunks, neighbours, the cache and the arena make of their prompt."""

import json
from itertools import cycle, islice

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import RequestError
from muxjax.types import Finish, Output, Pooling, Request, Sampling
from tests.device.test_greedy_goldens import Serving
from tests.device.test_step import SPEC
from tests.engine.controls import BUDGET, ControlledModel, dense_logits
from tests.models.golden import NAMES, make_model, read_golden

LENGTHS = (1, 2, 9, 17, 30, 41, 60)


@pytest.fixture(scope="module")
def model():
    return ControlledModel(pools=True)


def request_of(name: str, tokens: int, pooling: Pooling | None, *, salt: int = 1, max_tokens: int = 1) -> Request:
    prompt = tuple((salt * i * i + 3 * i + salt) % SPEC.vocab for i in range(tokens))
    return Request(
        id=name, model="m", prompt=prompt, sampling=Sampling(temperature=0.0, max_tokens=max_tokens, pooling=pooling), arrival_s=0.0
    )


def logits(model: ControlledModel, hidden: bytes) -> np.ndarray:
    """[V] by the model's head: no hidden states but those behind the last norm make the right ones."""
    head = model.params["embed"].T if SPEC.tied else model.params["head"]
    return np.frombuffer(hidden, "<f4") @ np.asarray(head)


def expected(model: ControlledModel, request: Request) -> np.ndarray:
    """[V], of which the mean is taken over the positions, as of the hidden states."""
    padded = jnp.array([*request.prompt, *[0] * (SPEC.max_len - len(request.prompt))])
    each = np.asarray(dense_logits(model.params, padded))[: len(request.prompt)]
    return each[-1] if request.sampling.pooling is Pooling.LAST else each.mean(0)


def assert_pooled(model: ControlledModel, request: Request, outputs: list[Output]) -> None:
    assert [output.finish for output in outputs] == [Finish.LENGTH] and outputs[0].hidden is not None
    np.testing.assert_allclose(logits(model, outputs[0].hidden), expected(model, request), rtol=1e-4, atol=1e-4)


def test_they_are_the_models_own_of_prompts_of_any_length_beside_requests_that_generate(model):
    requests = [request_of(f"{pooling}{size}", size, pooling, salt=size) for size in LENGTHS for pooling in Pooling]
    others = [request_of(f"other{size}", size, None, max_tokens=3) for size in LENGTHS]
    outputs, _ = model.run([one for pair in zip(requests, islice(cycle(others), len(others)), strict=False) for one in pair] + requests[7:])
    assert max(LENGTHS) > 2 * BUDGET and len(requests) > 4
    for one in requests:
        assert_pooled(model, one, outputs[one.id])
    assert not any(output.hidden for one in others for output in outputs[one.id])
    wrong = request_of("x", LENGTHS[-1], Pooling.MEAN, salt=5)
    with pytest.raises(AssertionError):  # of another prompt
        assert_pooled(model, wrong, outputs[requests[-1].id])


def test_several_devices_make_the_same_states_as_one(model):
    requests = [request_of(f"{pooling}{size}", size, pooling, salt=size) for size in (1, 17, 41) for pooling in Pooling]
    alone, pair = model.run(requests)[0], ControlledModel(tp=2, pools=True).run(requests)[0]
    for one in requests:
        hidden, theirs = (np.frombuffer(outputs[one.id][0].hidden or b"", "<f4") for outputs in (alone, pair))
        np.testing.assert_allclose(theirs, hidden, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A golden's model that pools, whose prefix cache is on, and keeps all tokens."""
    name = "llama3"
    folder = make_model(name, tmp_path_factory.mktemp("models") / name, read_golden(name).seed)
    with Serving({name: folder}, [name], pooling="mean") as serving:
        yield serving, name


def test_the_mean_is_of_all_tokens_though_some_are_in_the_cache(cached):
    serving, name = cached

    def asked(pooling: Pooling, tokens: int) -> tuple[np.ndarray, int]:
        prompt, sampling = read_golden(name).longest[:tokens], Sampling(temperature=0.0, max_tokens=1, pooling=pooling)
        serving.built.engine.submit(Request(id=f"{pooling}{tokens}", model=name, prompt=prompt, sampling=sampling, arrival_s=0.0))
        (output,) = serving.said.get(timeout=120)
        return np.frombuffer(output.hidden or b"", "<f4"), output.cached_tokens

    firsts = {pooling: asked(pooling, 90)[0] for pooling in Pooling}
    (mean, of_mean), (last, of_last) = asked(Pooling.MEAN, 90), asked(Pooling.LAST, 90)
    assert of_mean == 0 and of_last > 0
    np.testing.assert_allclose(mean, firsts[Pooling.MEAN], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(last, firsts[Pooling.LAST], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(asked(Pooling.MEAN, 1)[0], asked(Pooling.LAST, 1)[0], rtol=1e-5, atol=1e-5)


def test_a_prompt_that_begins_again_is_not_counted_twice(model):
    """With an arena so small that requests push each other out in the middle of their prompts."""
    requests = [request_of(f"r{i}", 50, Pooling.MEAN, salt=i + 1) for i in range(4)]
    growing = [request_of(f"g{i}", 20, None, salt=i + 9, max_tokens=40) for i in range(4)]
    outputs, preemptions = model.run([*growing, *requests], blocks=76)
    assert preemptions > 0
    for one in requests:
        assert_pooled(model, one, outputs[one.id])


def test_a_model_without_the_programs_refuses_before_anything_is_computed():
    with pytest.raises(RequestError, match="makes no embeddings") as refusal:
        ControlledModel().run([request_of("r", 5, Pooling.LAST)])
    assert (refusal.value.status, refusal.value.param) == (400, "model")


@pytest.mark.parametrize("name", NAMES[:3])
def test_they_are_those_of_transformers(name, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    golden = read_golden(name)
    folder = make_model(name, tmp_path / name, golden.seed)
    prompt = golden.longest[:90]
    with torch.no_grad():
        hidden = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)(torch.tensor([prompt])).last_hidden_state[0].numpy()
    with Serving({name: folder}, [name], pooling="last") as serving:
        for pooling, theirs in ((Pooling.LAST, hidden[-1]), (Pooling.MEAN, hidden.mean(0))):
            sampling = Sampling(temperature=0.0, max_tokens=1, pooling=pooling)
            serving.built.engine.submit(Request(id=pooling, model=name, prompt=prompt, sampling=sampling, arrival_s=0.0))
            (output,) = serving.said.get(timeout=120)
            np.testing.assert_allclose(np.frombuffer(output.hidden or b"", "<f4"), theirs, rtol=2e-4, atol=2e-4)
            with pytest.raises(AssertionError):
                np.testing.assert_allclose(np.frombuffer(output.hidden or b"", "<f4"), hidden[-2], rtol=2e-4, atol=2e-4)


def test_a_decoder_that_was_stored_alone_is_served(tmp_path):
    """As sentence-transformers keeps one: names without a prefix, no head, and how its hidden states are pooled."""
    name = "llama3"
    whole, alone = (make_model(name, tmp_path / folder, read_golden(name).seed) for folder in ("whole", "alone"))
    tensors = {stored.removeprefix("model."): tensor for stored, tensor in load_file(alone / "model.safetensors").items()}
    tensors.pop("lm_head.weight", None)
    save_file(tensors, alone / "model.safetensors")
    (alone / "1_Pooling").mkdir()
    (alone / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    found = []
    for folder, pooling in ((whole, "last"), (alone, None)):
        with Serving({name: folder}, [name], pooling=pooling) as serving:
            sampling = Sampling(temperature=0.0, max_tokens=1, pooling=Pooling.LAST)
            serving.built.engine.submit(Request(id="r", model=name, prompt=(1, 2, 3), sampling=sampling, arrival_s=0.0))
            (output,) = serving.said.get(timeout=120)
            found.append(np.frombuffer(output.hidden or b"", "<f4"))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
