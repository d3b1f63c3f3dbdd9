"""Every array of a decoder's parameter tree, declared once: its shape, which layers have it, what lies side by side in it, how devices
share it out, and which tensors of a checkpoint hold it."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

from muxjax.experts import Experts
from muxjax.model_spec import Latent, ModelSpec
from muxjax.quantization import Quantization
from muxjax.specs.tensor_names import tensor_names

NUMBERS, SCALE, ZERO = "_numbers", "_scale", "_zero"
"""Behind a matrix's name in a checkpoint, and the last two behind its kind too: what it is held as where it is quantised."""

CACHE_SCALES = ("k_cache_scale", "v_cache_scale")
"""Kinds of what divides a layer's keys and values in the cache."""


class Tensor(NamedTuple):
    """An array of the tree, stacked over the layers that have it, and over their experts.

    Args:
      shape: of one matrix [in, out], or of one vector.
      names: of a checkpoint's tensors, in a layer where it is stacked: one for each of the matrices side by side, or one that holds them
        all; with {} for an expert's number where each expert has tensors of its own.
      cuts: columns at which it is cut into the matrices that lie side by side in it.
      split: the axis, from the last, that devices share out; None where each has the whole.
      is_transposed: checkpoints hold matrices as [out, in].
      layers: that have it; none of them where it belongs to no layer.
      experts: of a layer; 0 where it belongs to none.
      dtype: that it has whatever the model's; None for the model's.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    cuts: tuple[int, ...] = ()
    split: int | None = None
    is_transposed: bool = False
    layers: tuple[int, ...] = ()
    experts: int = 0
    dtype: str | None = None

    @property
    def bias(self) -> "Tensor":
        """Of a matrix, shared out as its columns are."""
        names = tuple(name.replace(".weight", ".bias") if ".weight" in name else f"{name}_bias" for name in self.names)
        return self._replace(shape=self.shape[-1:], names=names, split=self.split if self.split == -1 else None, is_transposed=False)

    def quantised(self, how: Quantization) -> dict[str, "Tensor"]:
        """What a matrix is held as, by what stands behind its kind: its numbers; the scales [J, out] of its groups of inputs, and their
        zeros where there are some, which devices share out as they do the numbers."""
        groups = how.groups(self.shape[0])

        def of(suffix: str, dtype: str) -> Tensor:
            return self._replace(names=tuple(f"{name}{suffix}" for name in self.names), dtype=dtype)

        shared = {"shape": (groups, self.shape[1]), "split": None if self.split == -2 and groups == 1 else self.split}
        zeros = {ZERO: of(ZERO, "int8")._replace(**shared)} if how.has_zeros else {}
        return {"": of(NUMBERS, how.dtype), SCALE: of(SCALE, "float32")._replace(**shared)} | zeros

    @property
    def stacked_shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(size for size in (len(self.layers), self.experts) if size) + self.shape


@functools.lru_cache(maxsize=64)
def tensors(spec: ModelSpec) -> Mapping[str, Tensor]:
    """All of a model, or of a share of one, by dotted path."""
    names = tensor_names(spec)
    outside = {"embed": Tensor((spec.vocab, spec.width), names["embed"], split=-2), **_norm(spec, "norm")}
    head = {} if spec.tied else {"head": Tensor((spec.width, spec.vocab), names["head"], split=-1, is_transposed=True)}
    return outside | {f"layers.{kind}": tensor for kind, tensor in layer_tensors(spec).items()} | head


@functools.lru_cache(maxsize=64)
def layer_tensors(spec: ModelSpec) -> Mapping[str, Tensor]:
    """Those that are stacked over layers, by kind: the last part of their path."""
    every = _within(_attention(spec) | _norms(spec) | _head_norms(spec), tuple(range(spec.layers)))
    experts = _within(_experts(spec, spec.experts), spec.experts.layers) if spec.experts else {}
    found = every | _within(_mlp(spec), spec.dense_layers) | experts
    how = spec.quantization
    if how is None:
        return found
    held = {kind: tensor.quantised(how) if kind in how.kinds else {"": tensor} for kind, tensor in found.items()}
    return {f"{kind}{suffix}": tensor for kind, tensors in held.items() for suffix, tensor in tensors.items()}


def adds_to_residual(kind: str) -> bool:
    """Whether what a matrix of that kind makes is added to the residual stream."""
    return kind == "o" or kind.endswith("down")


def _within(kinds: dict[str, Tensor], layers: tuple[int, ...]) -> dict[str, Tensor]:
    """The kinds that some layers have; nothing where no layer does."""
    return {kind: tensor._replace(layers=layers) for kind, tensor in kinds.items()} if layers else {}


def _attention(spec: ModelSpec) -> dict[str, Tensor]:
    if spec.latent:
        return _latent_attention(spec, spec.latent)
    names, q_width, kv_width = tensor_names(spec), spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    cuts = () if spec.qkv_by_group else (q_width, q_width + kv_width)
    qkv = Tensor((spec.width, q_width + 2 * kv_width), names["qkv"], cuts, split=-1, is_transposed=True)
    o = Tensor((q_width, spec.width), names["o"], split=-2, is_transposed=True)
    sinks = {"sinks": Tensor((spec.heads,), names["sinks"], split=-1)} if spec.sinks else {}
    scales = {kind: Tensor((1,), names[kind], dtype="float32") for kind in CACHE_SCALES if spec.cache_scales}
    biases = ({"qkv_bias": qkv.bias} if spec.qkv_bias else {}) | ({"o_bias": o.bias} if spec.out_bias else {})
    return {"qkv": qkv, "o": o} | sinks | scales | biases


def _latent_attention(spec: ModelSpec, latent: Latent) -> dict[str, Tensor]:
    """Devices share out the heads: what makes queries, keys and values of the latents, of which each device has all."""
    names, q_width = tensor_names(spec), spec.heads * (latent.key + latent.rotated)
    shapes = {
        "kv_a": (spec.width, spec.head_dim),
        "kv_b": (latent.rank, spec.heads * (latent.key + latent.value)),
        "o": (spec.heads * latent.value, spec.width),
    }
    if latent.q_rank is None:
        shapes["q"] = (spec.width, q_width)
    else:
        shapes |= {"q_a": (spec.width, latent.q_rank), "q_b": (latent.q_rank, q_width)}
    splits = {"q": -1, "q_b": -1, "kv_b": -1, "o": -2}
    found = {kind: Tensor(shape, names[kind], split=splits.get(kind), is_transposed=True) for kind, shape in shapes.items()}
    biased = (("q_a", "kv_a") if spec.qkv_bias else ()) + (("o",) if spec.out_bias else ())
    biases = {f"{kind}_bias": found[kind].bias for kind in biased if kind in found}
    norms = {"kv_a_norm": latent.rank, "q_a_norm": latent.q_rank}
    normed = {kind: Tensor((size,), names[kind]) for kind, size in norms.items() if size is not None}
    return found | biases | normed


def _mlp(spec: ModelSpec) -> dict[str, Tensor]:
    read = _gate_up(spec, "gate_up", spec.ffn) if spec.is_gated else _up(spec, "up", spec.ffn)
    both = read | _down(spec, "down", spec.ffn)
    return both | ({f"{kind}_bias": tensor.bias for kind, tensor in both.items()} if spec.mlp_bias else {})


def _gate_up(spec: ModelSpec, kind: str, ffn: int) -> dict[str, Tensor]:
    return {kind: Tensor((spec.width, 2 * ffn), tensor_names(spec)[kind], (ffn,), split=-1, is_transposed=True)}


def _up(spec: ModelSpec, kind: str, ffn: int) -> dict[str, Tensor]:
    return {kind: Tensor((spec.width, ffn), tensor_names(spec)[kind], split=-1, is_transposed=True)}


def _down(spec: ModelSpec, kind: str, ffn: int) -> dict[str, Tensor]:
    return {kind: Tensor((ffn, spec.width), tensor_names(spec)[kind], split=-2, is_transposed=True)}


def _experts(spec: ModelSpec, experts: Experts) -> dict[str, Tensor]:
    """Of the router, the experts, and the MLP that all tokens share; each device has a part of every expert."""
    names = tensor_names(spec)
    router = Tensor((spec.width, experts.count), names["router"], is_transposed=True)
    each = _gate_up(spec, "expert_gate_up", experts.ffn) | _down(spec, "expert_down", experts.ffn)
    each = {kind: tensor._replace(experts=experts.count) for kind, tensor in each.items()}
    if experts.clamp is not None:  # gate and up alternate, in checkpoints too
        each = {kind: tensor._replace(cuts=(), is_transposed=False) for kind, tensor in each.items()}
    kinds = {"router": router} | each
    if experts.biases:
        kinds |= {f"{kind}_bias": tensor.bias for kind, tensor in kinds.items()}
    if experts.sigmoid:
        kinds["choice_bias"] = router.bias._replace(names=names["choice_bias"], dtype="float32")
    if experts.shared_ffn:
        kinds |= _gate_up(spec, "shared_gate_up", experts.shared_ffn) | _down(spec, "shared_down", experts.shared_ffn)
    if experts.shared_gate:
        kinds["shared_gate"] = Tensor((spec.width, 1), names["shared_gate"], is_transposed=True)
    return kinds


def _norms(spec: ModelSpec) -> dict[str, Tensor]:
    before = ("attn_norm", "mlp_norm")[: 1 if spec.parallel else 2] if spec.pre_norms else ()
    after = ("attn_post_norm", "mlp_post_norm") if spec.post_norms else ()
    return {kind: tensor for norm in (*before, *after) for kind, tensor in _norm(spec, norm).items()}


def _norm(spec: ModelSpec, kind: str) -> dict[str, Tensor]:
    norm = Tensor((spec.width,), tensor_names(spec)[kind])
    return {kind: norm} | ({f"{kind}_bias": norm.bias} if spec.norm == "layer_biased" else {})


def _head_norms(spec: ModelSpec) -> dict[str, Tensor]:
    names, found = tensor_names(spec), {}
    for kind, heads in (("q_norm", spec.heads), ("k_norm", spec.kv_heads)):
        of_kind = {
            "head": Tensor((spec.head_dim,), names[kind]),
            "own": Tensor((heads, spec.head_dim), names[kind], split=-2),
            "projection": Tensor((heads * spec.head_dim,), names[kind], split=-1),
        }
        found |= {kind: of_kind[spec.qk_norm]} if spec.qk_norm else {}
    return found
