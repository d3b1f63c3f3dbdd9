"""The arithmetic of a decoder layer outside attention."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.model_spec import ModelSpec, RopeScaling
from muxjax.models.tensors import SCALE, ZERO
from muxjax.pallas import reference

Product = Callable[..., jax.Array]
"""x [T, I] times w [I, O], [T, O]; or times numbers w by their scales and zeros [J, O], as `reference.product`."""

Weights = dict[str, Any]
"""Arrays of a layer by kind; under `{kind}_scale` and `{kind}_zero` those of a quantised matrix, and under `{kind}_lora` what adapters add
to a product by that matrix, where there are any."""


GroupedProduct = Callable[..., jax.Array]
"""x [P, I], of which the first rows belong to the first matrix, and so on, from where `reference.first_rows` says; w [L, X, I, O], with an
int32 scalar for the layer whose matrices they are; int32 [X] says how many rows are each one's; scales and zeros [L, X, J, O] of quantised
ones, or None: [P, O], which may have anything in places that are no rows."""


def ragged_dot(
    x_PI: jax.Array,
    w_LXIO: jax.Array,
    layer: jax.Array,
    count_X: jax.Array,
    scale_LXJO: jax.Array | None = None,
    zero_LXJO: jax.Array | None = None,
) -> jax.Array:
    """XLA's grouped product."""
    w_XIO = w_LXIO[layer]
    if scale_LXJO is not None:
        w_XIO = reference.widened(w_XIO, scale_LXJO[layer], None if zero_LXJO is None else zero_LXJO[layer], x_PI.dtype)
    return jax.lax.ragged_dot(x_PI, w_XIO, reference.whole_groups(count_X))


class Products(NamedTuple):
    """What multiplies by a layer's weights: by one matrix, and by those of experts."""

    matrix: Product = reference.product
    grouped: GroupedProduct = ragged_dot


PLAIN = Products()
"""XLA's own."""


def prompt_product(spec: ModelSpec) -> Product:
    """What multiplies by one matrix in a step with prompts that may take all of a device."""
    return reference.product_in_fp8 if spec.quantization and spec.quantization.rounds_prompts else reference.product


def norm(
    spec: ModelSpec,
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    *,
    eps: float | None = None,
    across: str | None = None,
) -> jax.Array:
    """x over its root mean square along the last axis, computed in float32, times weight; a LayerNorm takes the mean off before.

    Args:
      eps: None for the model's.
      across: devices that hold equal parts of that axis, of an RMS norm.
    """
    wide = x.astype(jnp.float32)
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True) if spec.norm.startswith("layer") else wide
    mean = jnp.mean(wide * wide, axis=-1, keepdims=True)
    mean = mean if across is None else jax.lax.pmean(mean, across)
    normed = wide * jax.lax.rsqrt(mean + (spec.norm_eps if eps is None else eps))
    if spec.norm == "rms":
        return weight * normed.astype(x.dtype)
    scale = weight.astype(jnp.float32) + (1 if spec.norm == "rms_offset" else 0)
    return (normed * scale + (0 if bias is None else bias.astype(jnp.float32))).astype(x.dtype)


def soft_capped(x: jax.Array, cap: float | None) -> jax.Array:
    """x bent to stay within plus and minus the cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def scaled(x: jax.Array, factor: float) -> jax.Array:
    """x times a number that x's dtype may not hold."""
    return x if factor == 1 else (x.astype(jnp.float32) * factor).astype(x.dtype)


def linear(x_TI: jax.Array, weights: Weights, kind: str, *, across: str | None = None, product: Product = reference.product) -> jax.Array:
    """x times the layer's matrix of that kind [I, O], plus what adapters add and its bias where it has them.

    Args:
      across: the mesh axis whose devices share out I, over which products are summed; None where each has all.
      product: what multiplies.
    """
    y_TO = product(x_TI, weights[kind], *scales_of(weights, kind))
    lora = weights.get(f"{kind}_lora")
    y_TO = summed(y_TO if lora is None else y_TO + lora(x_TI), across)
    bias = weights.get(f"{kind}_bias")
    return y_TO if bias is None else y_TO + bias


def scales_of(weights: Weights, kind: str) -> tuple[jax.Array | None, jax.Array | None]:
    """Scales and zeros of a quantised matrix, or of several."""
    return weights.get(f"{kind}{SCALE}"), weights.get(f"{kind}{ZERO}")


def summed(x: jax.Array, across: str | None) -> jax.Array:
    """x, or the sum of the x of all devices along a mesh axis."""
    return x if across is None else jax.lax.psum(x, across)


def embedded(embed_VM: jax.Array, tokens_T: jax.Array, across: str | None) -> jax.Array:
    """Rows of the embedding, [T, M]; `across` devices along a mesh axis that hold V rows each, in their order."""
    if across is None:
        return embed_VM[tokens_T]
    rows = embed_VM.shape[0]
    row_T = tokens_T - jax.lax.axis_index(across) * rows
    own_T = (row_T >= 0) & (row_T < rows)
    return summed(jnp.where(own_T[:, None], embed_VM.at[row_T].get(mode="clip"), 0), across)


def mlp(
    spec: ModelSpec, x_TM: jax.Array, weights: Weights, *, across: str | None = None, product: Product = reference.product
) -> jax.Array:
    """down(silu(gate(x)) * up(x)), [T, M], or what `spec.mlp` says else; `across` devices along a mesh axis that share out F."""
    read = linear(x_TM, weights, "gate_up" if spec.is_gated else "up", product=product)
    hidden_TF = gated(spec, read) if spec.is_gated else _gelu(read)
    return linear(hidden_TF, weights, "down", across=across, product=product)


def gated(spec: ModelSpec, gate_up_T2F: jax.Array) -> jax.Array:
    """silu(gate) * up, [T, F], or with a GELU in place of SiLU."""
    gate_TF, up_TF = jnp.split(gate_up_T2F, 2, axis=-1)
    return (_gelu(gate_TF) if spec.mlp == "geglu" else jax.nn.silu(gate_TF)) * up_TF


def _gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which rotary embedding turns each token's heads, [T, 1, F] each: D / 2, or less where only the
    first 2 F of a head's numbers are turned. And what the queries of each token are multiplied by, [T, 1, 1]; None for nothing."""

    cos_T1F: jax.Array
    sin_T1F: jax.Array
    query_T11: jax.Array | None = None

    @classmethod
    def of(cls, spec: ModelSpec, positions_T: jax.Array) -> "Rotation":
        """In the model's dtype; behind a barrier, or XLA would compute them anew in every layer and for every head."""
        angle_T1F = positions_T[:, None, None].astype(jnp.float32) * rope_frequencies(spec)
        factor = 1.0 if spec.rope_scaling is None else spec.rope_scaling.attention_factor
        turned = tuple(of(angle_T1F) if factor == 1 else of(angle_T1F) * factor for of in (jnp.cos, jnp.sin))
        cos_T1F, sin_T1F = jax.lax.optimization_barrier(tuple(x_T1F.astype(spec.dtype) for x_T1F in turned))
        return cls(cos_T1F, sin_T1F, _query_scale(spec, positions_T))

    def queries(self, q_THD: jax.Array) -> jax.Array:
        """Queries that are turned, as long as they are at their positions."""
        return q_THD if self.query_T11 is None else q_THD * self.query_T11


def rotate(x_THD: jax.Array, rotation: Rotation, *, interleaved: bool = False) -> jax.Array:
    """Rotary embedding: the halves of each head, or of its first numbers, turned by the token's angles; or neighbours among them."""
    cos, sin, _ = rotation
    half = cos.shape[-1]
    turned, rest = jnp.split(x_THD, [2 * half], axis=-1)
    low, high = (turned[..., ::2], turned[..., 1::2]) if interleaved else jnp.split(turned, 2, axis=-1)
    low, high = low * cos - high * sin, high * cos + low * sin
    if interleaved:
        return jnp.concatenate([jnp.stack([low, high], axis=-1).reshape(turned.shape), rest], axis=-1)
    return jnp.concatenate([low, high, rest], axis=-1)


def _query_scale(spec: ModelSpec, positions_T: jax.Array) -> jax.Array | None:
    """More in every further stretch of the original length; [T, 1, 1] in the model's dtype, None where queries stay as they are."""
    scaling = spec.rope_scaling
    if scaling is None or not scaling.query_beta:
        return None
    stretch_T = jnp.floor(positions_T.astype(jnp.float32) / scaling.original_max_len)
    return (1 + scaling.query_beta * jnp.log(1 + stretch_T)).astype(spec.dtype)[:, None, None]


def rope_frequencies(spec: ModelSpec) -> np.ndarray:
    """[F] float32, radians a position, scaled as the spec says."""
    size = spec.rotary_dim or spec.head_dim
    exponents = np.arange(0, size, 2, dtype=np.float32) / size
    plain = (1.0 / spec.rope_theta**exponents).astype(np.float32)
    return plain if spec.rope_scaling is None else _stretched(plain, spec.rope_scaling, spec.rope_theta)


def _stretched(plain: np.ndarray, scaling: RopeScaling, theta: float) -> np.ndarray:
    """Linear: all slower. Longrope: each by its own factor. LLaMA 3 and yarn: slow ones slower by the factor, fast ones kept, those
    between blended, by their turns over the original context, or by their place among the frequencies."""
    if scaling.kind == "linear":
        return plain / np.float32(scaling.factor)
    if scaling.kind == "longrope":
        return (plain / np.array(scaling.factors, np.float32)).astype(np.float32)
    if scaling.kind == "yarn":
        kept = _kept_share(len(plain), scaling, theta)
        return (kept * plain + (1 - kept) * plain / np.float32(scaling.factor)).astype(np.float32)
    turns = scaling.original_max_len * plain / (2 * math.pi)  # over the original context
    share = np.clip((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor), 0, 1)
    return (share * plain + (1 - share) * plain / scaling.factor).astype(np.float32)


def _kept_share(count: int, scaling: RopeScaling, theta: float) -> np.ndarray:
    """How much yarn keeps of each frequency: from 1 before the place of `beta_fast` to 0 after that of `beta_slow`.

    Source: https://arxiv.org/abs/2309.00071, "NTK-by-parts".
    """

    def place(turns: float) -> float:
        return count * math.log(scaling.original_max_len / (turns * 2 * math.pi)) / math.log(theta)

    first, last = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.beta_whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * count - 1)
    width = 0.001 if first == last else last - first
    return (1 - np.clip((np.arange(count, dtype=np.float32) - first) / width, 0, 1)).astype(np.float32)
