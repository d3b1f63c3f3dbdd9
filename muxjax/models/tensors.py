"""Every array of a decoder's parameter tree, declared once: its shape, what lies side by side in it, how devices share it out, and which
modules of a checkpoint hold it."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

from muxjax.types import ModelSpec

_LAYERS = "layers."


class Tensor(NamedTuple):
    """An array of the tree; of one layer of it where it is stacked over the layers.

    Args:
      shape: of a matrix [in, out].
      modules: of a checkpoint, in a layer where it is stacked: one for each of the matrices side by side, or one that holds them all.
      cuts: columns at which it is cut into the matrices that lie side by side in it.
      split: the axis, from the last, that devices share out; None where each has the whole.
      is_transposed: checkpoints hold it as [out, in].
    """

    shape: tuple[int, ...]
    modules: tuple[str, ...]
    cuts: tuple[int, ...] = ()
    split: int | None = None
    is_transposed: bool = False

    @property
    def bias(self) -> "Tensor":
        """Of a matrix, shared out as its columns are."""
        return self._replace(shape=self.shape[-1:], split=self.split if self.split == -1 else None, is_transposed=False)


@functools.lru_cache(maxsize=64)
def tensors(spec: ModelSpec) -> Mapping[str, Tensor]:
    """All of a model, or of a share of one, by dotted path."""
    outside = {
        "embed": Tensor((spec.vocab, spec.width), ("model.embed_tokens",), split=-2),
        "norm": Tensor((spec.width,), ("model.norm",)),
    }
    head = {} if spec.tied else {"head": Tensor((spec.width, spec.vocab), ("lm_head",), split=-1, is_transposed=True)}
    matrices = _attention(spec) | _mlp(spec)
    biased = ("qkv",) * spec.qkv_bias + ("o",) * spec.out_bias + ("gate_up", "down") * spec.mlp_bias
    layer = matrices | {f"{kind}_bias": matrices[kind].bias for kind in biased} | _norms(spec) | _head_norms(spec)
    return outside | {f"{_LAYERS}{kind}": tensor for kind, tensor in layer.items()} | head


def layer_kind(path: str) -> str | None:
    """The kind of an array that is stacked over the layers; None of another."""
    return path.removeprefix(_LAYERS) if path.startswith(_LAYERS) else None


def _attention(spec: ModelSpec) -> dict[str, Tensor]:
    q_width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    modules = ("self_attn.qkv_proj",) if spec.naming == "phi3" else ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    cuts = (q_width, q_width + kv_width)
    return {
        "qkv": Tensor((spec.width, q_width + 2 * kv_width), modules, cuts, split=-1, is_transposed=True),
        "o": Tensor((q_width, spec.width), ("self_attn.o_proj",), split=-2, is_transposed=True),
    }


def _mlp(spec: ModelSpec) -> dict[str, Tensor]:
    modules = ("mlp.gate_proj", "mlp.up_proj") if spec.naming == "llama" else ("mlp.gate_up_proj",)
    return {
        "gate_up": Tensor((spec.width, 2 * spec.ffn), modules, (spec.ffn,), split=-1, is_transposed=True),
        "down": Tensor((spec.ffn, spec.width), ("mlp.down_proj",), split=-2, is_transposed=True),
    }


def _norms(spec: ModelSpec) -> dict[str, Tensor]:
    """A checkpoint's names say where a norm stands by what stands beside it."""
    before = {"attn_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm" if spec.post_norms else "post_attention_layernorm"}
    after = {"attn_post_norm": "post_attention_layernorm", "mlp_post_norm": "post_feedforward_layernorm"}
    if spec.naming == "glm4":
        before["mlp_norm"] = "post_attention_layernorm"
        after = {"attn_post_norm": "post_self_attn_layernorm", "mlp_post_norm": "post_mlp_layernorm"}
    modules = (before if spec.pre_norms else {}) | (after if spec.post_norms else {})
    return {kind: Tensor((spec.width,), (module,)) for kind, module in modules.items()}


def _head_norms(spec: ModelSpec) -> dict[str, Tensor]:
    modules = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
    if spec.projection_norm:
        widths = {"q_norm": spec.heads * spec.head_dim, "k_norm": spec.kv_heads * spec.head_dim}
        return {kind: Tensor((widths[kind],), (module,), split=-1) for kind, module in modules.items()}
    return {kind: Tensor((spec.head_dim,), (module,)) for kind, module in modules.items()} if spec.qk_norm else {}
