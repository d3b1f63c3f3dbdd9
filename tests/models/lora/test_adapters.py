"""Our decoder with adapters beside its matrices against what peft computed with each merged; and the comparison notices a small mistake."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.models.attention import DenseMemory
from muxjax.models.lora import stacks
from muxjax.models.lora.adapters import NO_PLACE, Adapters, Pairs
from muxjax.models.lora.files import open_adapter, read_adapter
from muxjax.models.weights import load
from muxjax.pallas import reference
from muxjax.specs.adapter import adapter_params
from muxjax.specs.config import read_spec
from tests.models import golden
from tests.models.adapter import FOLDER, make_adapter, make_base, make_golden_adapter, read_adapter_golden
from tests.models.golden import worst_row

LIMIT = 1e-4
"""The worst row measured was 4.0e-5: these adapters add more than their bases have."""
BASES = tuple(sorted(folder.name for folder in FOLDER.iterdir()))
RANK, PLACES = 8, 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Spec, parameters, and what its golden adapter puts into a place."""
    loaded = {}

    def get(base: str) -> tuple[ModelSpec, decoder.Params, Pairs]:
        if base not in loaded:
            folder = tmp_path_factory.mktemp(base)
            spec = read_spec(make_base(base, folder / "base"))
            adapter = open_adapter("one", make_golden_adapter(base, folder / "adapter"), spec, most_rank=RANK)
            one = stacks.padded(read_adapter(adapter, spec, most_rank=RANK), RANK)
            loaded[base] = spec, load(folder / "base", spec, progress=False), one
        return loaded[base]

    return get


def places_of(spec: ModelSpec, **adapters: Pairs) -> Pairs:
    """Places by number, as p0=...; the others are empty."""
    pairs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stacks.shapes(spec, PLACES, RANK))
    for name, one in adapters.items():
        pairs = stacks.put(pairs, one, jnp.int32(name[1:]))
    return pairs


def logits_of(spec: ModelSpec, params: decoder.Params, pairs: Pairs, place: int, tokens: tuple[int, ...]) -> np.ndarray:
    count = len(tokens)
    adapters = Adapters(pairs, jnp.full(count, place), reference.lora)
    hidden_TM, _ = decoder.forward(spec, params, jnp.array(tokens), jnp.arange(count), DenseMemory(), adapters=adapters)
    return np.asarray(decoder.logits(spec, params, hidden_TM))


@pytest.mark.parametrize("base", BASES)
def test_logits_are_those_of_peft_with_the_adapter_merged(models, base):
    golden, (spec, params, one) = read_adapter_golden(base), models(base)
    tokens = golden.prompt + golden.tokens
    assert worst_row(logits_of(spec, params, places_of(spec, p1=one), 1, tokens), golden.logits) < LIMIT
    best = logits_of(spec, params, places_of(spec, p2=one), 2, tokens).argmax(-1)
    assert tuple(best[len(golden.prompt) - 1 : -1].tolist()) == golden.tokens


@pytest.mark.parametrize("mistake", ["another place", "no place", "scale left out", "parts exchanged", "one kind left out"])
def test_the_comparison_notices(models, mistake):
    golden, (spec, params, one) = read_adapter_golden("llama3_scaled"), models("llama3_scaled")
    place, at = 1, 1
    if mistake == "another place":
        at = 0
    elif mistake == "no place":
        place = NO_PLACE
    elif mistake == "scale left out":
        one = {kind: pair._replace(b=tuple(b / 2 for b in pair.b)) for kind, pair in one.items()}
    elif mistake == "parts exchanged":
        one = one | {"gate_up": one["gate_up"]._replace(a=one["gate_up"].a[:, ::-1])}
    else:
        one = one | {"down": one["down"]._replace(a=0 * one["down"].a)}
    tokens = golden.prompt + golden.tokens
    assert worst_row(logits_of(spec, params, places_of(spec, **{f"p{at}": one}), place, tokens), golden.logits) > 100 * LIMIT


def test_tokens_of_several_adapters_and_of_none_are_each_as_if_alone(models):
    spec, _, one = models("qwen2")
    x_TI, layer = jax.random.normal(jax.random.key(0), (5, spec.width)), 1
    other = jax.tree.map(lambda leaf: -2 * leaf[..., ::-1], one)
    pairs = places_of(spec, p0=one, p2=other)
    place_T = jnp.array([2, NO_PLACE, 0, 0, 2])
    together = Adapters(pairs, place_T, reference.lora).of_layer(spec, layer)["qkv_lora"](x_TI)
    for token, place in enumerate(place_T.tolist()):
        alone = Adapters(pairs, place_T[token : token + 1], reference.lora).of_layer(spec, layer)["qkv_lora"](x_TI[token : token + 1])[0]
        np.testing.assert_allclose(together[token], alone, rtol=1e-5, atol=1e-4)
        assert bool(jnp.any(alone != 0)) == (place != NO_PLACE)


def test_what_is_not_a_number_in_padding_spoils_nobody(models):
    spec, _, one = models("qwen2")
    x_TI = jnp.ones((3, spec.width)).at[1].set(jnp.nan)
    add = Adapters(places_of(spec, p0=one), jnp.array([0, NO_PLACE, 0]), reference.lora).of_layer(spec, 0)["qkv_lora"](x_TI)
    assert bool(jnp.isfinite(add).all())


@pytest.mark.parametrize("name", ["starcoder2", "internlm2", "phi3"])
def test_matrices_that_are_one_or_apart_take_the_memory_that_a_spec_says(name):
    spec = read_spec(golden.FOLDER / name, weights=False)
    assert sum(leaf.size for leaf in jax.tree.leaves(stacks.one_shapes(spec, RANK))) == adapter_params(spec, RANK)


def test_places_take_the_memory_that_a_spec_says(models):
    spec, _, one = models("llama3_scaled")
    sizes = sum(leaf.size for leaf in jax.tree.leaves(stacks.shapes(spec, PLACES, RANK)))
    assert sizes == PLACES * adapter_params(spec, RANK)
    half = spec.share(2)
    assert sum(leaf.size for leaf in jax.tree.leaves(stacks.one_shapes(half, RANK))) == adapter_params(half, RANK)
    assert sum(leaf.size for leaf in jax.tree.leaves(one)) == adapter_params(spec, RANK)


def test_an_adapter_of_a_lower_rank_is_padded_with_nothing(models, tmp_path):
    spec = replace(models("qwen2")[0], dtype="bfloat16")
    folder = make_adapter(tmp_path, spec, 3, r=2, lora_alpha=4)
    weights = read_adapter(open_adapter("low", folder, spec, most_rank=RANK), spec, most_rank=RANK)
    assert weights.pairs["qkv"].a.shape == (spec.layers, 3, 2, spec.width)
    wide = stacks.padded(weights, RANK)["qkv"]
    assert wide.a.shape == (spec.layers, 3, RANK, spec.width)
    assert wide.a.dtype == jnp.bfloat16
    assert not wide.a[:, :, 2:].any()
    assert not wide.a[:, 1].any()  # k has no adapter
