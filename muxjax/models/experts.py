"""Mixture of experts: in place of one MLP for all tokens, for each token the few that a router chooses.

X experts of a layer, A of a token, R = T A rows that experts compute: a token's one for each of its experts. P places for them, in the
order of experts, each of which begins where `reference.first_rows` says.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.models.layers import PLAIN, Product, Products, gated, linear, scales_of, summed
from muxjax.pallas import reference


def mixture(
    spec: ModelSpec,
    x_TM: jax.Array,
    weights: dict[str, jax.Array],
    present_T: jax.Array | bool,
    *,
    across: str | None = None,
    products: Products = PLAIN,
) -> jax.Array:
    """What a token's experts make of it by their weights, and the shared MLP where there is one, [T, M]; `across` devices along a mesh axis
    that have a part of each expert's F.

    Args:
      weights: of a layer, as `decoder.Layers` gives them.
      present_T: tokens that go to experts; others are padding, and may become anything.
    """
    assert spec.experts
    expert_TA, weight_TA = route(spec.experts, x_TM, weights)
    expert_TA = jnp.where(jnp.reshape(present_T, (-1, 1)), expert_TA, spec.experts.count)  # beyond all for padding
    placed = _placed(expert_TA, spec.experts.count)
    gate_up_P2F = _grouped(x_TM[placed.token_P], weights, "expert_gate_up", placed.count_X, products)
    if spec.experts.biases:
        gate_up_P2F += _bias(weights, "expert_gate_up", placed.expert_P)
    y_PM = _grouped(_activated(spec, gate_up_P2F), weights, "expert_down", placed.count_X, products)
    y_TAM = y_PM.at[placed.place_TA].get(mode="fill", fill_value=0)
    mixed_TM = summed(_weighed(weight_TA, y_TAM) + _shared(spec, x_TM, weights, product=products.matrix), across)
    if spec.experts.biases:  # once, and not on each device
        mixed_TM += _weighed(weight_TA, _bias(weights, "expert_down", expert_TA))
    return mixed_TM


class _Placed(NamedTuple):
    """Rows in the order of their experts.

    Args:
      count_X: rows of each expert.
      place_TA: of each row, P for padding.
      token_P, expert_P: whose row is there; any at all where there is none.
    """

    count_X: jax.Array
    place_TA: jax.Array
    token_P: jax.Array
    expert_P: jax.Array


def _placed(expert_TA: jax.Array, count: int) -> _Placed:
    """Places of the rows of those experts, of so many; `count` and more is padding's."""
    rows, per_token = expert_TA.size, expert_TA.shape[1]
    places = reference.whole_groups(rows + (reference.ROW_GRAIN - 1) * min(count, rows))
    order_R = jnp.argsort(expert_TA.reshape(-1))
    expert_R = expert_TA.reshape(-1)[order_R]
    count_X = jnp.bincount(expert_R, length=count).astype(jnp.int32)
    moved_X = reference.first_rows(count_X) - (jnp.cumsum(count_X) - count_X)
    place_R = jnp.where(expert_R < count, jnp.arange(rows) + moved_X.at[expert_R].get(mode="clip"), places)
    nothing_P = jnp.zeros(places, jnp.int32)
    return _Placed(
        count_X=count_X,
        place_TA=nothing_P[:rows].at[order_R].set(place_R, unique_indices=True).reshape(expert_TA.shape),
        token_P=nothing_P.at[place_R].set(order_R // per_token, mode="drop"),
        expert_P=nothing_P.at[place_R].set(expert_R, mode="drop"),
    )


def route(experts: Experts, x_TM: jax.Array, weights: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """A token's experts, [T, A] int32, and their weights, [T, A] float32."""
    logits_TX = linear(x_TM, weights, "router", product=_wide_product)
    score_TX = jax.nn.sigmoid(logits_TX) if experts.sigmoid else jax.nn.softmax(logits_TX)
    choice_TX = score_TX + weights["choice_bias"] if experts.sigmoid else score_TX
    _, expert_TA = jax.lax.top_k(_within_groups(experts, choice_TX), experts.per_token)
    weight_TA = jnp.take_along_axis(score_TX, expert_TA, axis=1)
    if experts.normed:
        weight_TA = weight_TA / weight_TA.sum(axis=1, keepdims=True)
    return expert_TA, weight_TA * experts.scale


def _within_groups(experts: Experts, choice_TX: jax.Array) -> jax.Array:
    """What experts are chosen by, for those of a token's groups; less than any for others."""
    if experts.groups == 1:
        return choice_TX
    choice_TGX = choice_TX.reshape(len(choice_TX), experts.groups, -1)
    best_TGn, _ = jax.lax.top_k(choice_TGX, 2 if experts.sigmoid else 1)
    _, group_Tn = jax.lax.top_k(best_TGn.sum(axis=-1), experts.groups_per_token)
    own_TG = (group_Tn[:, :, None] == jnp.arange(experts.groups)).any(axis=1)
    return jnp.where(own_TG[:, :, None], choice_TGX, -jnp.inf).reshape(choice_TX.shape)


def _grouped(x_PI: jax.Array, weights: dict[str, jax.Array], kind: str, count_X: jax.Array, products: Products) -> jax.Array:
    return products.grouped(x_PI, weights[kind], weights["place"], count_X, *scales_of(weights, kind))


def _wide_product(x_TM: jax.Array, w_MX: jax.Array, *_: None) -> jax.Array:
    """[T, X] float32, by a matrix that is not quantised."""
    return jnp.matmul(x_TM, w_MX, preferred_element_type=jnp.float32)


def _activated(spec: ModelSpec, gate_up_P2F: jax.Array) -> jax.Array:
    """Gate and up of each row as one, [P, F]."""
    assert spec.experts
    if (limit := spec.experts.clamp) is None:
        return gated(spec, gate_up_P2F)
    gate_PF, up_PF = jnp.minimum(gate_up_P2F[:, ::2], limit), jnp.clip(gate_up_P2F[:, 1::2], -limit, limit)
    return gate_PF * jax.nn.sigmoid(1.702 * gate_PF) * (up_PF + 1)


def _bias(weights: dict[str, jax.Array], kind: str, expert: jax.Array) -> jax.Array:
    """Of each of some experts' matrices, [..., O]; any at all of one beyond all."""
    return weights[f"{kind}_bias"].at[weights["place"], expert].get(mode="clip")


def _weighed(weight_TA: jax.Array, y_TAM: jax.Array) -> jax.Array:
    """Sum of what a token's experts make, by their weights, [T, M]."""
    mixed_TM = jnp.einsum("TA,TAM->TM", weight_TA, y_TAM.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return mixed_TM.astype(y_TAM.dtype)


def _shared(spec: ModelSpec, x_TM: jax.Array, weights: dict[str, jax.Array], *, product: Product) -> jax.Array | float:
    """What the MLP makes that every token has, [T, M]; 0 where there is none."""
    if "shared_gate_up" not in weights:
        return 0.0
    hidden_TF = gated(spec, linear(x_TM, weights, "shared_gate_up", product=product))
    y_TM = linear(hidden_TF, weights, "shared_down", product=product)
    return y_TM * jax.nn.sigmoid(x_TM @ weights["shared_gate"]) if "shared_gate" in weights else y_TM
