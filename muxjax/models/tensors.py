"""Every array of a decoder's parameter tree, declared once: its shape, which layers have it, what lies side by side in it, how devices
share it out, and which tensors of a checkpoint hold it."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec


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

    @property
    def stacked_shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(size for size in (len(self.layers), self.experts) if size) + self.shape


@functools.lru_cache(maxsize=64)
def tensors(spec: ModelSpec) -> Mapping[str, Tensor]:
    """All of a model, or of a share of one, by dotted path."""
    outside = {
        "embed": Tensor((spec.vocab, spec.width), ("model.embed_tokens.weight",), split=-2),
        "norm": Tensor((spec.width,), ("model.norm.weight",)),
    }
    head = {} if spec.tied else {"head": Tensor((spec.width, spec.vocab), ("lm_head.weight",), split=-1, is_transposed=True)}
    return outside | {f"layers.{kind}": tensor for kind, tensor in layer_tensors(spec).items()} | head


@functools.lru_cache(maxsize=64)
def layer_tensors(spec: ModelSpec) -> Mapping[str, Tensor]:
    """Those that are stacked over layers, by kind: the last part of their path."""
    every = _within(_attention(spec) | _norms(spec) | _head_norms(spec), tuple(range(spec.layers)))
    experts = _within(_experts(spec, spec.experts), spec.experts.layers) if spec.experts else {}
    return every | _within(_mlp(spec), spec.dense_layers) | experts


def adds_to_residual(kind: str) -> bool:
    """Whether what a matrix of that kind makes is added to the residual stream."""
    return kind == "o" or kind.endswith("down")


def _within(kinds: dict[str, Tensor], layers: tuple[int, ...]) -> dict[str, Tensor]:
    """The kinds that some layers have; nothing where no layer does."""
    return {kind: tensor._replace(layers=layers) for kind, tensor in kinds.items()} if layers else {}


def _attention(spec: ModelSpec) -> dict[str, Tensor]:
    q_width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    modules = ("qkv",) if spec.naming == "phi3" else ("q", "k", "v")
    names = tuple(f"self_attn.{module}_proj.weight" for module in modules)
    qkv = Tensor((spec.width, q_width + 2 * kv_width), names, (q_width, q_width + kv_width), split=-1, is_transposed=True)
    o = Tensor((q_width, spec.width), ("self_attn.o_proj.weight",), split=-2, is_transposed=True)
    sinks = {"sinks": Tensor((spec.heads,), ("self_attn.sinks",), split=-1)} if spec.sinks else {}
    return {"qkv": qkv, "o": o} | sinks | ({"qkv_bias": qkv.bias} if spec.qkv_bias else {}) | ({"o_bias": o.bias} if spec.out_bias else {})


def _mlp(spec: ModelSpec) -> dict[str, Tensor]:
    modules = ("gate_up",) if spec.naming in ("phi3", "glm4") else ("gate", "up")
    gate_up = _gate_up(spec.width, spec.ffn, tuple(f"mlp.{module}_proj.weight" for module in modules))
    down = _down(spec.width, spec.ffn, "mlp.down_proj.weight")
    return {"gate_up": gate_up, "down": down} | ({"gate_up_bias": gate_up.bias, "down_bias": down.bias} if spec.mlp_bias else {})


def _gate_up(width: int, ffn: int, names: tuple[str, ...]) -> Tensor:
    return Tensor((width, 2 * ffn), names, (ffn,), split=-1, is_transposed=True)


def _down(width: int, ffn: int, name: str) -> Tensor:
    return Tensor((ffn, width), (name,), split=-2, is_transposed=True)


def _experts(spec: ModelSpec, experts: Experts) -> dict[str, Tensor]:
    """Of the router, the experts, and the MLP that all tokens share; each device has a part of every expert."""
    names = _NAMES.get(spec.naming, _USUAL_NAMES)
    router = Tensor((spec.width, experts.count), (names.router,), is_transposed=True)
    gate_up = _gate_up(spec.width, experts.ffn, names.gate_up)._replace(experts=experts.count)
    down = _down(spec.width, experts.ffn, names.down)._replace(experts=experts.count)
    if experts.clamp is not None:  # gate and up alternate, in checkpoints too
        gate_up, down = (kind._replace(cuts=(), is_transposed=False) for kind in (gate_up, down))
    kinds = {"router": router, "expert_gate_up": gate_up, "expert_down": down}
    if experts.sigmoid:
        kinds["choice_bias"] = router.bias._replace(names=(names.choice_bias,), dtype="float32")
    if experts.biases:
        kinds |= {"router_bias": router.bias, "expert_gate_up_bias": gate_up.bias, "expert_down_bias": down.bias}
    if experts.shared_ffn:
        kinds["shared_gate_up"] = _gate_up(spec.width, experts.shared_ffn, names.shared_gate_up)
        kinds["shared_down"] = _down(spec.width, experts.shared_ffn, names.shared_down)
    if experts.shared_gate:
        kinds["shared_gate"] = Tensor((spec.width, 1), (names.shared_gate,), is_transposed=True)
    return kinds


def _norms(spec: ModelSpec) -> dict[str, Tensor]:
    """A checkpoint's names say where a norm stands by what stands beside it."""
    before = {"attn_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm" if spec.post_norms else "post_attention_layernorm"}
    after = {"attn_post_norm": "post_attention_layernorm", "mlp_post_norm": "post_feedforward_layernorm"}
    if spec.naming == "glm4":
        before["mlp_norm"] = "post_attention_layernorm"
        after = {"attn_post_norm": "post_self_attn_layernorm", "mlp_post_norm": "post_mlp_layernorm"}
    modules = (before if spec.pre_norms else {}) | (after if spec.post_norms else {})
    return {kind: Tensor((spec.width,), (f"{module}.weight",)) for kind, module in modules.items()}


def _head_norms(spec: ModelSpec) -> dict[str, Tensor]:
    if not (spec.projection_norm or spec.qk_norm):
        return {}
    widths = {"q_norm": spec.heads * spec.head_dim, "k_norm": spec.kv_heads * spec.head_dim}
    if spec.projection_norm:
        return {kind: Tensor((width,), (f"self_attn.{kind}.weight",), split=-1) for kind, width in widths.items()}
    return {kind: Tensor((spec.head_dim,), (f"self_attn.{kind}.weight",)) for kind in widths}


class _ExpertNames(NamedTuple):
    """What checkpoints call the tensors of a layer's experts, {} for an expert's number; gate and up have one each, or one that holds
    both."""

    router: str
    gate_up: tuple[str, ...]
    down: str
    choice_bias: str = ""
    shared_gate_up: tuple[str, ...] = ()
    shared_down: str = ""
    shared_gate: str = ""


def _projections(module: str) -> tuple[str, ...]:
    return tuple(f"{module}.{kind}_proj.weight" for kind in ("gate", "up"))


_USUAL_NAMES = _ExpertNames(
    router="mlp.gate.weight",
    gate_up=_projections("mlp.experts.{}"),
    down="mlp.experts.{}.down_proj.weight",
    shared_gate_up=_projections("mlp.shared_expert"),
    shared_down="mlp.shared_expert.down_proj.weight",
    shared_gate="mlp.shared_expert_gate.weight",
)
_NAMES = {
    "gpt_oss": _ExpertNames(
        router="mlp.router.weight",
        gate_up=("mlp.experts.gate_up_proj",),
        down="mlp.experts.down_proj",
    ),
    "mixtral": _ExpertNames(
        router="block_sparse_moe.gate.weight",
        gate_up=("block_sparse_moe.experts.{}.w1.weight", "block_sparse_moe.experts.{}.w3.weight"),
        down="block_sparse_moe.experts.{}.w2.weight",
    ),
    "glm4_moe": _USUAL_NAMES._replace(
        choice_bias="mlp.gate.e_score_correction_bias",
        shared_gate_up=_projections("mlp.shared_experts"),
        shared_down="mlp.shared_experts.down_proj.weight",
    ),
    "granitemoe": _ExpertNames(
        router="block_sparse_moe.router.layer.weight",
        gate_up=("block_sparse_moe.input_linear.weight",),
        down="block_sparse_moe.output_linear.weight",
        shared_gate_up=("shared_mlp.input_linear.weight",),
        shared_down="shared_mlp.output_linear.weight",
    ),
}
