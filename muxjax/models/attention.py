"""Self-attention of one layer, whatever remembers its keys and values."""

from typing import NamedTuple, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp

from muxjax.model_spec import Latent, ModelSpec
from muxjax.models.layers import Product, Rotation, Weights, linear, norm, rotate, soft_capped
from muxjax.models.tensors import CACHE_SCALES
from muxjax.pallas import reference

_LATENT_EPS = 1e-6
"""Of norms of latents, whatever other norms have: so it is in DeepSeek's code, and in transformers'."""


class Scoring(NamedTuple):
    """How a layer's queries score what they see.

    Args:
      window: tokens that a query sees, itself included; None for all.
      scale: multiplies the products of queries and keys; None for D ** -0.5.
      soft_cap: scores are bent to stay within plus and minus this, by tanh; None for as they are.
    """

    window: int | None = None
    scale: float | None = None
    soft_cap: float | None = None


class Memory(Protocol):
    """Keys and values of all layers; a pytree."""

    @property
    def present_T(self) -> jax.Array | bool:
        """Which of the batch's tokens are somebody's, and not padding; True where all are."""
        ...

    def attend(
        self,
        layer: jax.Array,
        scoring: Scoring,
        q_THD: jax.Array,
        k_TKD: jax.Array,
        v_TKD: jax.Array,
        sink_H: jax.Array | None = None,
    ) -> tuple[jax.Array, Self]:
        """Remembers k and v; what q sees of all remembered, [T, H, D], and the memory after.

        Args:
          layer: int32 scalar.
          sink_H: each head's score of a token that is none: it takes its share of the attention, and has no value.
        """
        ...


MemoryT = TypeVar("MemoryT", bound=Memory)


def attention(
    spec: ModelSpec,
    layer: jax.Array,
    scoring: Scoring,
    weights: Weights,
    x_TM: jax.Array,
    rotation: Rotation | None,
    memory: MemoryT,
    *,
    across: str | None = None,
    product: Product = reference.product,
) -> tuple[jax.Array, MemoryT]:
    """Projections, q/k norms, rotation, attention through memory, output projection: [T, M].

    Memory knows nothing of a cache's scales: it is given keys and values divided by them, and queries and results are multiplied.

    Args:
      rotation: None in a layer without.
      across: the mesh axis whose devices share out the heads; None where each has all.
      product: what multiplies by the projections.
    """
    within = {"across": across, "product": product}
    if spec.latent:
        return _latent_attention(spec, spec.latent, layer, scoring, weights, x_TM, rotation, memory, **within)
    tokens = x_TM.shape[0]
    q_THD, k_TKD, v_TKD = _split(spec, linear(x_TM, weights, "qkv", product=product))
    if spec.qk_norm:
        q_THD = _qk_norm(spec, q_THD, weights["q_norm"], across)
        k_TKD = _qk_norm(spec, k_TKD, weights["k_norm"], across)
    if rotation is not None:
        q_THD, k_TKD = (rotate(x_THD, rotation, interleaved=spec.interleaved) for x_THD in (q_THD, k_TKD))
        q_THD = rotation.queries(q_THD)
    if spec.cache_scales:
        k_scale_1, v_scale_1 = (weights[kind] for kind in CACHE_SCALES)
        q_THD, k_TKD, v_TKD = _times(q_THD, k_scale_1), _times(k_TKD, 1 / k_scale_1), _times(v_TKD, 1 / v_scale_1)
    out_THD, memory = memory.attend(layer, scoring, q_THD, k_TKD, v_TKD, weights.get("sinks"))
    out_THD = _times(out_THD, weights[CACHE_SCALES[1]]) if spec.cache_scales else out_THD
    return linear(out_THD.reshape(tokens, -1), weights, "o", **within), memory


def _latent_attention(
    spec: ModelSpec,
    latent: Latent,
    layer: jax.Array,
    scoring: Scoring,
    weights: Weights,
    x_TM: jax.Array,
    rotation: Rotation | None,
    memory: MemoryT,
    *,
    across: str | None,
    product: Product,
) -> tuple[jax.Array, MemoryT]:
    """The same over latents. What makes a head's keys of them is multiplied into its query, so that all heads see the one latent, and what
    makes values of them is multiplied into what they saw."""
    tokens = x_TM.shape[0]
    made = weights["kv_b"].reshape(latent.rank, -1, latent.key + latent.value)
    key_RHN, value_RHV = jnp.split(made, [latent.key], axis=2)
    q_THN, q_THr = jnp.split(_latent_queries(spec, latent, weights, x_TM, product), [latent.key], axis=2)
    kv_TR, k_Tr = jnp.split(linear(x_TM, weights, "kv_a", product=product), [latent.rank], axis=1)
    k_T1r = k_Tr[:, None]
    if rotation is not None:
        q_THr, k_T1r = (rotate(x, rotation, interleaved=spec.interleaved) for x in (q_THr, k_T1r))
    q_THD = jnp.concatenate([jnp.einsum("THN,RHN->THR", q_THN, key_RHN), q_THr], axis=2)
    kv_T1D = jnp.concatenate([norm(spec, kv_TR, weights["kv_a_norm"], eps=_LATENT_EPS)[:, None], k_T1r], axis=2)
    out_THD, memory = memory.attend(layer, scoring, q_THD, kv_T1D, kv_T1D)
    out_THV = jnp.einsum("THR,RHV->THV", out_THD[..., : latent.rank], value_RHV)
    return linear(out_THV.reshape(tokens, -1), weights, "o", across=across, product=product), memory


def _latent_queries(spec: ModelSpec, latent: Latent, weights: Weights, x_TM: jax.Array, product: Product) -> jax.Array:
    """[T, H, N + r], the numbers to rotate last."""
    if latent.q_rank is None:
        q = linear(x_TM, weights, "q", product=product)
    else:
        q_TQ = norm(spec, linear(x_TM, weights, "q_a", product=product), weights["q_a_norm"], eps=_LATENT_EPS)
        q = linear(q_TQ, weights, "q_b", product=product)
    return q.reshape(len(x_TM), -1, latent.key + latent.rotated)


def _times(x_THD: jax.Array, scale_1: jax.Array) -> jax.Array:
    return (x_THD * scale_1).astype(x_THD.dtype)


def _split(spec: ModelSpec, qkv: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Heads of queries [T, H, D], keys and values [T, K, D] of what the layer's one matrix made of T tokens."""
    tokens, heads = len(qkv), spec.heads
    if spec.qkv_by_group:
        parts = jnp.split(qkv.reshape(tokens, spec.kv_heads, -1, spec.head_dim), [spec.group, spec.group + 1], axis=2)
        q_THD, k_TKD, v_TKD = (part.reshape(tokens, -1, spec.head_dim) for part in parts)
    else:
        q_THD, k_TKD, v_TKD = jnp.split(qkv.reshape(tokens, -1, spec.head_dim), [heads, heads + spec.kv_heads], axis=1)
    return q_THD, k_TKD, v_TKD


def _qk_norm(spec: ModelSpec, x_THD: jax.Array, weight: jax.Array, across: str | None) -> jax.Array:
    """Over each head, or over all heads of a token together, those of other devices too."""
    if spec.qk_norm == "projection":
        return norm(spec, x_THD.reshape(len(x_THD), -1), weight, across=across).reshape(x_THD.shape)
    return norm(spec, x_THD, weight)


class DenseMemory(NamedTuple):
    """Remembers nothing beyond one whole sequence of T tokens: for training, and as the meaning of the paged cache."""

    @property
    def present_T(self) -> bool:
        return True

    def attend(
        self,
        layer: jax.Array,
        scoring: Scoring,
        q_THD: jax.Array,
        k_TKD: jax.Array,
        v_TKD: jax.Array,
        sink_H: jax.Array | None = None,
    ) -> tuple[jax.Array, "DenseMemory"]:
        tokens, kv_heads, head_dim = k_TKD.shape
        q_TKGD = q_THD.reshape(tokens, kv_heads, -1, head_dim)
        scale = head_dim**-0.5 if scoring.scale is None else scoring.scale
        scores_KGTS = jnp.einsum("TKGD,SKD->KGTS", q_TKGD, k_TKD, preferred_element_type=jnp.float32) * scale
        scores_KGTS = soft_capped(scores_KGTS, scoring.soft_cap)
        position = jnp.arange(tokens)
        age_TS = position[:, None] - position
        seen_TS = (age_TS >= 0) & (age_TS < (scoring.window or tokens))
        scores_KGTS = jnp.where(seen_TS, scores_KGTS, -jnp.inf)
        if sink_H is not None:
            sink_KG11 = sink_H.astype(jnp.float32).reshape(kv_heads, -1, 1, 1)
            scores_KGTS = jnp.concatenate([scores_KGTS, jnp.broadcast_to(sink_KG11, (*scores_KGTS.shape[:3], 1))], axis=-1)
        weights_KGTS = jax.nn.softmax(scores_KGTS, axis=-1)[..., :tokens]
        return jnp.einsum("KGTS,SKD->TKGD", weights_KGTS.astype(v_TKD.dtype), v_TKD).reshape(q_THD.shape), self
