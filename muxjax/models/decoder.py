"""The decoder: one Flax NNX definition for every family, run as a pure function of a plain pytree.

Weights of a kind are stacked over the layers that have it, [L, ...], with matrices as [in, out]: few leaves to dispatch, and a Python
loop over the layers reads slices without a copy (docs/decisions/0004). Matrices of one input are one, side by side (docs/decisions/0010):
`qkv` holds the columns of all q heads, all k heads, all v heads; `gate_up` gate's, then up's. Layers are unlike where kinds are of some
of them only: those with experts have no `gate_up`, but a `router` (docs/decisions/0029).

Under tensor parallelism, each device runs it with the spec and the weights of its share, `across` the mesh axis of the devices.
"""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from muxjax.model_spec import ModelSpec
from muxjax.models.attention import MemoryT, Scoring, attention
from muxjax.models.experts import mixture
from muxjax.models.layers import PLAIN, Products, Rotation, Weights, embedded, mlp, norm, scaled, soft_capped
from muxjax.models.lora.adapters import Adapters
from muxjax.models.tensors import Tensor, adds_to_residual, layer_tensors, tensors

Params = dict[str, Any]
"""{"embed", "layers": {kind: [L, ...], of the layers that have it}, "norm", its "norm_bias" if it has one, "head" unless tied}."""


class Layers(nnx.Module):
    """Weights of all layers, stacked by kind."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs):
        self.spec = spec
        for kind, tensor in layer_tensors(spec).items():
            setattr(self, kind, nnx.Param(_initial(kind, tensor, spec, rngs)))

    def __getitem__(self, layer: int) -> dict[str, jax.Array]:
        """Those of one layer, by kind. Experts come as the whole stack, with their `place` in it: they are read in a loop, for which XLA
        would copy a slice."""
        own = {}
        for kind, tensor in layer_tensors(self.spec).items():
            if layer in tensor.layers:
                place, stack = tensor.layers.index(layer), getattr(self, kind)
                own |= {kind: stack[...], "place": jnp.int32(place)} if tensor.experts else {kind: stack[place]}
        return own


class Decoder(nnx.Module):
    """A transformer decoder with rotary grouped-query attention and an MLP, or experts in its place."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs):
        self.spec = spec
        declared = tensors(spec)
        self.embed = nnx.Param(_initial("embed", declared["embed"], spec, rngs))
        self.layers = Layers(spec, rngs)
        self.norm = nnx.Param(_initial("norm", declared["norm"], spec, rngs))
        if "norm_bias" in declared:
            self.norm_bias = nnx.Param(_initial("norm_bias", declared["norm_bias"], spec, rngs))
        if not spec.tied:
            self.head = nnx.Param(_initial("head", declared["head"], spec, rngs))

    def __call__(
        self,
        tokens_T: jax.Array,
        positions_T: jax.Array,
        memory: MemoryT,
        *,
        across: str | None = None,
        products: Products = PLAIN,
        adapters: Adapters | None = None,
    ) -> tuple[jax.Array, MemoryT]:
        """The last layer's normed output, [T, M], and the memory with T tokens more."""
        spec, rotations = self.spec, _rotations(self.spec, positions_T)
        x_TM = embedded(self.embed[...], tokens_T, across)
        x_TM = x_TM if spec.embed_scale == 1 else x_TM * jnp.asarray(spec.embed_scale, x_TM.dtype)
        for layer, window in enumerate(spec.windows):
            scoring = Scoring(window, spec.attention_scale, spec.attention_soft_cap)
            weights = self.layers[layer] | (adapters.of_layer(spec, layer) if adapters else {})
            arrays = jnp.int32(layer), weights, x_TM, rotations[layer], memory
            x_TM, memory = _layer(spec, scoring, *arrays, across=across, products=products)
        bias = self.norm_bias[...] if spec.norm == "layer_biased" else None
        return norm(spec, x_TM, self.norm[...], bias), memory

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


@functools.partial(jax.jit, static_argnames=("spec", "scoring", "across", "products"))
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
    products: Products,
) -> tuple[jax.Array, MemoryT]:
    """One layer. A jit of its own has it traced and lowered once for all layers that are alike; XLA puts it back into the program."""

    def normed(x_TM: jax.Array, kind: str) -> jax.Array:
        return norm(spec, x_TM, weights[kind], weights.get(f"{kind}_bias")) if kind in weights else x_TM

    within = {"across": across, "product": products.matrix}
    read_TM = normed(x_TM, "attn_norm")
    mixed_TM, memory = attention(spec, layer, scoring, weights, read_TM, rotation, memory, **within)
    x_TM = x_TM + scaled(normed(mixed_TM, "attn_post_norm"), spec.residual_scale)
    read_TM = read_TM if spec.parallel else normed(x_TM, "mlp_norm")
    if "router" in weights:
        mixed_TM = mixture(spec, read_TM, weights, memory.present_T, across=across, products=products)
    else:
        mixed_TM = mlp(spec, read_TM, weights, **within)
    return x_TM + scaled(normed(mixed_TM, "mlp_post_norm"), spec.residual_scale), memory


def forward(
    spec: ModelSpec,
    params: Params,
    tokens_T: jax.Array,
    positions_T: jax.Array,
    memory: MemoryT,
    *,
    across: str | None = None,
    products: Products = PLAIN,
    adapters: Adapters | None = None,
) -> tuple[jax.Array, MemoryT]:
    """The decoder as a pure function: hidden [T, M] and the memory after.

    Args:
      products: what multiplies by the layers' matrices.
      adapters: of those tokens; None where none has one.
    """
    return _bound(spec, params)(tokens_T, positions_T, memory, across=across, products=products, adapters=adapters)


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


def _initial(kind: str, tensor: Tensor, spec: ModelSpec, rngs: nnx.Rngs) -> jax.Array:
    dtype, shape = jnp.dtype(tensor.dtype or spec.dtype), tensor.stacked_shape
    if kind.endswith("norm"):
        return jnp.full(shape, 0 if spec.norm == "rms_offset" else 1, dtype)
    if kind.endswith("bias"):
        return jnp.zeros(shape, dtype)
    scale = 0.02 if kind in ("embed", "head") else shape[-2] ** -0.5
    residual = (2 * spec.layers) ** -0.5 if adds_to_residual(kind) else 1.0
    return (jax.random.normal(rngs.params(), shape) * scale * residual).astype(dtype)
