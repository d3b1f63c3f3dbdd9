"""Routing: which experts a token gets, with which weights, and who gets none."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import init_params
from muxjax.models.experts import _placed, mixture, route
from muxjax.models.layers import PLAIN, Products
from muxjax.pallas import reference

EXPERTS = Experts(count=5, per_token=2, ffn=24, layers=(0,), shared_ffn=8, shared_gate=True)
SPEC = ModelSpec(
    vocab=8, width=16, layers=1, heads=2, kv_heads=2, head_dim=8, ffn=8, max_len=8, windows=(None,), experts=EXPERTS, dtype="float32"
)
OURS = Products(reference.product, reference.grouped_product)
X = jax.random.normal(jax.random.key(1), (9, 16))


def layer(spec: ModelSpec) -> dict[str, jax.Array]:
    """The only one's weights, of experts with its place in their stack."""
    stacks = init_params(spec, jax.random.key(0))["layers"]
    return {kind: stack if kind.startswith("expert") else stack[0] for kind, stack in stacks.items()} | {"place": jnp.int32(0)}


def expected(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """A token after the other, in float64."""

    def mlp(x_M, gate_up, down):
        gate, up = np.split(x_M @ gate_up, 2)
        return (gate / (1 + np.exp(-gate)) * up) @ down

    out = []
    for x_M in x:
        score = np.exp(x_M @ weights["router"])
        best = np.argsort(-score)[: EXPERTS.per_token]
        routed = [score[i] / score[best].sum() * mlp(x_M, weights["expert_gate_up"][i], weights["expert_down"][i]) for i in best]
        shared = mlp(x_M, weights["shared_gate_up"], weights["shared_down"]) / (1 + np.exp(-x_M @ weights["shared_gate"]))
        out.append(sum(routed) + shared)
    return np.stack(out)


@pytest.mark.parametrize("products", [PLAIN, OURS], ids=["xla", "reference"])
def test_a_token_is_computed_by_its_experts_and_the_shared_one(products):
    weights = layer(SPEC)
    wide = {kind: np.asarray(weight, np.float64) for kind, weight in weights.items()}
    wide |= {kind: wide[kind][0] for kind in ("expert_gate_up", "expert_down")}
    np.testing.assert_allclose(mixture(SPEC, X, weights, True, products=products), expected(np.asarray(X, np.float64), wide), atol=1e-5)


@given(tokens=st.integers(1, 40), count=st.integers(1, 12), data=st.data())
def test_each_row_has_a_place_of_its_own_among_its_experts(tokens, count, data):
    """And there is room for them, however unequal the experts are."""
    per_token = data.draw(st.integers(1, count))
    expert_TA = np.array([data.draw(st.permutations(range(count)))[:per_token] for _ in range(tokens)])
    expert_TA[data.draw(st.lists(st.integers(0, tokens - 1), max_size=5))] = count  # padding
    placed = _placed(jnp.asarray(expert_TA), count)
    places, place_TA = len(placed.token_P), np.asarray(placed.place_TA)
    assert places % 8 == 0 and len({*place_TA[expert_TA < count].tolist()}) == (expert_TA < count).sum()
    first_X = np.asarray(reference.first_rows(placed.count_X))
    for (token, choice), expert in np.ndenumerate(expert_TA):
        place = place_TA[token, choice]
        if expert == count:
            assert place == places
            continue
        assert first_X[expert] <= place < min(first_X[expert] + placed.count_X[expert], places)
        assert placed.token_P[place] == token and placed.expert_P[place] == expert


def test_padding_goes_to_no_expert():
    """Whose rows would all be the experts' of a few tokens, which alone are read: NaN in padding and in other experts shows nowhere."""
    present_T = jnp.arange(9) < 2
    weights = layer(SPEC)
    expert_TA, _ = route(EXPERTS, X[:2], weights)
    chosen_X = jnp.zeros(5, bool).at[expert_TA.reshape(-1)].set(True)
    assert not chosen_X.all()
    others_nan = {
        kind: jnp.where(chosen_X[:, None, None], weight, jnp.nan) for kind, weight in weights.items() if kind.startswith("expert")
    }
    padded = jnp.where(present_T[:, None], X, jnp.nan)
    some = mixture(SPEC, padded, weights | others_nan, present_T, products=OURS)
    np.testing.assert_allclose(some[:2], mixture(SPEC, X, weights, True, products=OURS)[:2], atol=1e-6)
    counted: list[np.ndarray] = []

    def count(x_PI, w_LXIO, layer, count_X, *scales):
        counted.append(np.asarray(count_X))
        return reference.grouped_product(x_PI, w_LXIO, layer, count_X, *scales)

    mixture(SPEC, X, weights, present_T, products=Products(reference.product, count))
    assert [int(count_X.sum()) for count_X in counted] == [4, 4]


@pytest.mark.parametrize("normed", [True, False])
def test_weights_of_a_softmax_add_up_to_one_where_they_are_made_to(normed):
    _, weight_TA = route(replace(EXPERTS, normed=normed, scale=2.0), X, layer(SPEC))
    assert np.allclose(weight_TA.sum(axis=1), 2.0) == normed
    assert (np.asarray(weight_TA.sum(axis=1)) <= 2.0 + 1e-6).all()


def test_a_bias_chooses_experts_and_weighs_none():
    experts = replace(EXPERTS, sigmoid=True, normed=False)
    weights = layer(replace(SPEC, experts=experts))
    biased = weights | {"choice_bias": jnp.array([0, 0, 0, 9.0, 8.0])}
    expert_TA, weight_TA = route(experts, X, biased)
    np.testing.assert_array_equal(expert_TA, np.tile([3, 4], (9, 1)))
    np.testing.assert_allclose(weight_TA, jax.nn.sigmoid(X @ weights["router"])[:, 3:], rtol=1e-6)


def test_the_router_decides_in_float32():
    """Between logits that are the same in bfloat16, which weights and tokens are."""
    router = jnp.stack([jnp.ones(5), jnp.arange(5) * 2.0**-9, *[jnp.zeros(5)] * 14]).astype(jnp.bfloat16)
    x = jnp.ones((1, 16), jnp.bfloat16)
    assert len(set((x @ router)[0].tolist())) < 5
    expert_TA, _ = route(EXPERTS, x, {"router": router})
    assert expert_TA.tolist() == [[4, 3]]
