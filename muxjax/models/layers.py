"""The arithmetic of a decoder layer outside attention."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.types import ModelSpec, RopeScaling


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """x over its root mean square along the last axis, computed in float32, times weight."""
    wide = x.astype(jnp.float32)
    scaled = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return weight * scaled.astype(x.dtype)


def linear(x_TI: jax.Array, weights: dict[str, jax.Array], kind: str) -> jax.Array:
    """x times the layer's matrix of that kind [I, O], plus its bias where it has one."""
    y_TO = x_TI @ weights[kind]
    bias = weights.get(f"{kind}_bias")
    return y_TO if bias is None else y_TO + bias


def mlp(x_TM: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    """SwiGLU: down(silu(gate(x)) * up(x)), [T, M]."""
    gate_TF, up_TF = jnp.split(linear(x_TM, weights, "gate_up"), 2, axis=-1)
    return linear(jax.nn.silu(gate_TF) * up_TF, weights, "down")


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which rotary embedding turns each token's heads, [T, 1, D / 2] each."""

    cos_T1F: jax.Array
    sin_T1F: jax.Array

    @classmethod
    def of(cls, spec: ModelSpec, positions_T: jax.Array) -> "Rotation":
        """In the model's dtype; behind a barrier, or XLA would compute them anew in every layer and for every head."""
        angle_T1F = positions_T[:, None, None].astype(jnp.float32) * rope_frequencies(spec)
        return cls(*jax.lax.optimization_barrier(tuple(of(angle_T1F).astype(spec.dtype) for of in (jnp.cos, jnp.sin))))


def rotate(x_THD: jax.Array, rotation: Rotation) -> jax.Array:
    """Rotary embedding: the halves of each head turned by the token's angles."""
    cos, sin = rotation
    low, high = jnp.split(x_THD, 2, axis=-1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def rope_frequencies(spec: ModelSpec) -> np.ndarray:
    """[D / 2] float32, radians a position, scaled as the spec says."""
    exponents = np.arange(0, spec.head_dim, 2, dtype=np.float32) / spec.head_dim
    plain = (1.0 / spec.rope_theta**exponents).astype(np.float32)
    return plain if spec.rope_scaling is None else _scaled(plain, spec.rope_scaling)


def _scaled(plain: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Linear: all slower. LLaMA 3: slow ones slower by the factor, fast ones kept, those between blended."""
    if scaling.kind == "linear":
        return plain / np.float32(scaling.factor)
    turns = scaling.original_max_len * plain / (2 * math.pi)  # over the original context
    kept = np.clip((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor), 0, 1)
    return (kept * plain + (1 - kept) * plain / scaling.factor).astype(np.float32)
