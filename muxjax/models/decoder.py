"""The decoder: one Flax NNX definition for every family, run as a pure function of a plain pytree.

Weights of a kind are stacked over the layers, [L, ...], with matrices as [in, out]: few leaves to dispatch, and a Python loop
over the layers reads slices without a copy (docs/decisions/0004). Matrices of one input are one, side by side (docs/decisions/0010):
`qkv` holds the columns of all q heads, all k heads, all v heads; `gate_up` gate's, then up's.

Under tensor parallelism, each device runs it with the spec and the weights of its share, `across` the mesh axis of the devices.
"""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from muxjax.models.attention import MemoryT, Scoring, attention
from muxjax.models.layers import Product, Rotation, Weights, embedded, mlp, rms_norm, scaled, soft_capped
from muxjax.models.lora.adapters import Adapters
from muxjax.models.tensors import layer_kind, tensors
from muxjax.types import ModelSpec

Params = dict[str, Any]
"""{"embed", "layers": {kind: [L, ...]}, "norm", "head" unless tied}."""


class Layers(nnx.Module):
    """Weights of all layers, stacked by kind."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs):
        shapes = {kind: tensor.shape for path, tensor in tensors(spec).items() if (kind := layer_kind(path))}
        for kind, shape in shapes.items():
            setattr(self, kind, nnx.Param(_initial(kind, (spec.layers, *shape), spec, rngs)))
        self.kinds = tuple(shapes)

    def __getitem__(self, layer: int) -> dict[str, jax.Array]:
        return {kind: getattr(self, kind)[layer] for kind in self.kinds}


class Decoder(nnx.Module):
    """A transformer decoder with rotary grouped-query attention and a gated MLP."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs):
        self.spec = spec
        shapes = {path: tensor.shape for path, tensor in tensors(spec).items()}
        self.embed = nnx.Param(_initial("embed", shapes["embed"], spec, rngs))
        self.layers = Layers(spec, rngs)
        self.norm = nnx.Param(_initial("norm", shapes["norm"], spec, rngs))
        if not spec.tied:
            self.head = nnx.Param(_initial("head", shapes["head"], spec, rngs))

    def __call__(
        self,
        tokens_T: jax.Array,
        positions_T: jax.Array,
        memory: MemoryT,
        *,
        across: str | None = None,
        product: Product = jnp.matmul,
        adapters: Adapters | None = None,
    ) -> tuple[jax.Array, MemoryT]:
        """The last layer's normed output, [T, M], and the memory with T tokens more."""
        spec, rotations = self.spec, _rotations(self.spec, positions_T)
        x_TM = embedded(self.embed[...], tokens_T, across)
        x_TM = x_TM if spec.embed_scale == 1 else x_TM * jnp.asarray(spec.embed_scale, x_TM.dtype)
        for layer, window in enumerate(spec.windows):
            scoring = Scoring(window, spec.attention_scale, spec.attention_soft_cap)
            weights = self.layers[layer] | (adapters.of_layer(layer) if adapters else {})
            arrays = jnp.int32(layer), weights, x_TM, rotations[layer], memory
            x_TM, memory = _layer(spec, scoring, *arrays, across=across, product=product)
        return rms_norm(spec, x_TM, self.norm[...]), memory

    def logits(self, hidden_BM: jax.Array) -> jax.Array:
        """[B, V] float32; of a share, of its part of the vocabulary."""
        head_MV = self.embed[...].T if self.spec.tied else self.head[...]
        logits_BV = jnp.matmul(hidden_BM, head_MV, preferred_element_type=jnp.float32)
        logits_BV = logits_BV if self.spec.logit_divisor == 1 else logits_BV / self.spec.logit_divisor
        return soft_capped(logits_BV, self.spec.logit_soft_cap)


def _rotations(spec: ModelSpec, positions_T: jax.Array) -> list[Rotation | None]:
    """Of each layer; None for one without."""
    rotation = Rotation.of(spec, positions_T)
    local = rotation
    if spec.local_rope_theta is not None:
        local = Rotation.of(replace(spec, rope_theta=spec.local_rope_theta, rope_scaling=None), positions_T)
    turned = [rotation if window is None else local for window in spec.windows]
    return [None if layer in spec.unrotated else of_layer for layer, of_layer in enumerate(turned)]


@functools.partial(jax.jit, static_argnames=("spec", "scoring", "across", "product"))
def _layer(
    spec: ModelSpec,
    scoring: Scoring,
    layer: jax.Array,
    weights: Weights,
    x_TM: jax.Array,
    rotation: Rotation | None,
    memory: MemoryT,
    *,
    across: str | None,
    product: Product,
) -> tuple[jax.Array, MemoryT]:
    """One layer. A jit of its own has it traced and lowered once for all layers that are alike; XLA puts it back into the program."""

    def normed(x_TM: jax.Array, kind: str) -> jax.Array:
        return rms_norm(spec, x_TM, weights[kind]) if kind in weights else x_TM

    mixed_TM, memory = attention(spec, layer, scoring, weights, normed(x_TM, "attn_norm"), rotation, memory, across=across, product=product)
    x_TM = x_TM + scaled(normed(mixed_TM, "attn_post_norm"), spec.residual_scale)
    mixed_TM = mlp(spec, normed(x_TM, "mlp_norm"), weights, across=across, product=product)
    return x_TM + scaled(normed(mixed_TM, "mlp_post_norm"), spec.residual_scale), memory


def forward(
    spec: ModelSpec,
    params: Params,
    tokens_T: jax.Array,
    positions_T: jax.Array,
    memory: MemoryT,
    *,
    across: str | None = None,
    product: Product = jnp.matmul,
    adapters: Adapters | None = None,
) -> tuple[jax.Array, MemoryT]:
    """The decoder as a pure function: hidden [T, M] and the memory after.

    Args:
      product: what multiplies by the layers' matrices.
      adapters: of those tokens; None where none has one.
    """
    return _bound(spec, params)(tokens_T, positions_T, memory, across=across, product=product, adapters=adapters)


def logits(spec: ModelSpec, params: Params, hidden_BM: jax.Array) -> jax.Array:
    """[B, V] float32, of those hidden rows alone: most positions of a prefill need none."""
    return _bound(spec, params).logits(hidden_BM)


def param_shapes(spec: ModelSpec) -> Params:
    """The tree of `jax.ShapeDtypeStruct` that a checkpoint must fill."""
    return nnx.to_pure_dict(nnx.split(_abstract(spec))[1])


def init_params(spec: ModelSpec, key: jax.Array) -> Params:
    """Random parameters to train from: residual projections are scaled by 1 / sqrt(2 L)."""
    return nnx.to_pure_dict(nnx.split(Decoder(spec, nnx.Rngs(params=key)))[1])


def _bound(spec: ModelSpec, params: Params) -> Decoder:
    return nnx.merge(_graph(spec), params)


@functools.lru_cache(maxsize=64)
def _graph(spec: ModelSpec) -> nnx.GraphDef:
    return nnx.split(_abstract(spec))[0]


def _abstract(spec: ModelSpec) -> Decoder:
    return nnx.eval_shape(lambda: Decoder(spec, nnx.Rngs(0)))


def _initial(kind: str, shape: tuple[int, ...], spec: ModelSpec, rngs: nnx.Rngs) -> jax.Array:
    dtype = jnp.dtype(spec.dtype)
    if kind.endswith("norm"):
        return jnp.full(shape, 0 if spec.norm_offset else 1, dtype)
    if kind.endswith("bias"):
        return jnp.zeros(shape, dtype)
    scale = 0.02 if kind in ("embed", "head") else shape[-2] ** -0.5
    residual = (2 * spec.layers) ** -0.5 if kind in ("o", "down") else 1.0
    return (jax.random.normal(rngs.params(), shape) * scale * residual).astype(dtype)
