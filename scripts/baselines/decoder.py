"""A decoder of the LLaMA family in plain torch, cut where attention is: all between two attentions is one function to compile.

T are tokens of any rows, H query heads, K kv heads, D the head size, M the width, F that of the FFN, V the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from muxjax.model_spec import ModelSpec

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Of a layer's number, q [T, H, D], and k, v [T, K, D]; returns [T, H, D]."""


class Layer(NamedTuple):
    """Weights as `linear` takes them, [out, in]; projections that read the same input are one."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    ffn_norm: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of a whole model: embed and head [V, M], the same tensor where they are tied."""

    embed: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Tensor

    @property
    def read_bytes(self) -> int:
        """What a decode step reads of them: all but the embedding, of which it reads a row for each token."""
        tensors = [*(tensor for layer in self.layers for tensor in layer if tensor is not None), self.norm, self.head]
        return sum(tensor.nbytes for tensor in tensors)


class Place(NamedTuple):
    """Where tokens stand: slot and position [T] int64, and the table of `rope_table`."""

    slot: Tensor
    position: Tensor
    turns: Tensor


class Decoder:
    """A model with its cache.

    Args:
      keys, values: [rows, S, K, D] of each layer, whatever their strides; written here, and read by who attends.
      compiled: makes a function fast, such as torch.compile.
    """

    def __init__(
        self, spec: ModelSpec, weights: Weights, keys: list[Tensor], values: list[Tensor], compiled: Callable[[Callable], Callable]
    ):
        self.spec, self.weights, self.keys, self.values = spec, weights, keys, values
        self._first, self._between, self._last = map(compiled, _pieces(spec))

    def next_tokens(self, token: Tensor, place: Place, attend: Attend, pick: Tensor | None = None) -> Tensor:
        """The likeliest next token of each place, or of those that `pick` [P] int64 names; writes keys and values of all.

        Args:
          token: [T] int64.
        """
        layers = self.weights.layers
        _any_length(token, *place[:2])
        x, q, k, v = self._first(layers[0], self.weights.embed, token, place, self.keys[0], self.values[0])
        for i in range(len(layers) - 1):
            attended = attend(i, q, k, v)
            _any_length(x, attended)
            x, q, k, v = self._between(layers[i], layers[i + 1], x, attended, place, self.keys[i + 1], self.values[i + 1])
        attended = attend(len(layers) - 1, q, k, v)
        _any_length(x, attended)
        return self._last(layers[-1], self.weights.norm, self.weights.head, x, attended, pick)


def rope_table(spec: ModelSpec, positions: int, device: torch.device) -> Tensor:
    """[positions, D] float32: cosines, then sines, of how each position turns the pairs of a head."""
    half = torch.arange(0, spec.head_dim, 2, dtype=torch.float64) / spec.head_dim
    frequency = spec.rope_theta**-half
    scaling = spec.rope_scaling
    if scaling is not None and scaling.kind == "linear":
        frequency = frequency / scaling.factor
    elif scaling is not None:
        turns = scaling.original_max_len * frequency / (2 * torch.pi)
        kept = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1)
        frequency = frequency * (kept + (1 - kept) / scaling.factor)
    angle = torch.outer(torch.arange(positions, dtype=torch.float64), frequency)
    return torch.cat([angle.cos(), angle.sin()], dim=-1).to(device, torch.float32)


def _pieces(spec: ModelSpec) -> tuple[Callable, Callable, Callable]:
    """All that a step does before, between and after attentions: no partial ones, as a compiler counts programs by function."""

    def first(layer: Layer, embed: Tensor, token: Tensor, place: Place, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        x = F.embedding(token, embed)
        return x, *_heads(spec, layer, x, place, keys, values)

    def between(layer: Layer, after: Layer, x: Tensor, attended: Tensor, place: Place, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        x = _ffn(spec, layer, x, attended)
        return x, *_heads(spec, after, x, place, keys, values)

    def last(layer: Layer, norm: Tensor, head: Tensor, x: Tensor, attended: Tensor, pick: Tensor | None) -> Tensor:
        if pick is not None:
            x, attended = x[pick], attended[pick]
        x = F.rms_norm(_ffn(spec, layer, x, attended), norm.shape, norm, spec.norm_eps)
        return F.linear(x, head).argmax(dim=-1)

    return first, between, last


def _heads(spec: ModelSpec, layer: Layer, x: Tensor, place: Place, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q [T, H, D], k and v [T, K, D], which the cache has then."""
    hidden = F.rms_norm(x, layer.attention_norm.shape, layer.attention_norm, spec.norm_eps)
    heads = F.linear(hidden, layer.qkv, layer.qkv_bias).unflatten(-1, (-1, spec.head_dim))
    q, k, v = heads.split((spec.heads, spec.kv_heads, spec.kv_heads), dim=1)
    if layer.q_norm is not None and layer.k_norm is not None:
        q = F.rms_norm(q, layer.q_norm.shape, layer.q_norm, spec.norm_eps)
        k = F.rms_norm(k, layer.k_norm.shape, layer.k_norm, spec.norm_eps)
    cos, sin = place.turns[place.position].unsqueeze(1).chunk(2, dim=-1)
    q, k = _turned(q, cos, sin), _turned(k, cos, sin)
    keys[place.slot, place.position] = k
    values[place.slot, place.position] = v
    return q, k, v


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """In float32, as angles of far positions need."""
    left, right = heads.float().chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(heads.dtype)


def _ffn(spec: ModelSpec, layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
    x = x + F.linear(attended.flatten(1), layer.out, layer.out_bias)
    hidden = F.rms_norm(x, layer.ffn_norm.shape, layer.ffn_norm, spec.norm_eps)
    gate, up = F.linear(hidden, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, layer.down, layer.down_bias)


def _any_length(*tensors: Tensor) -> None:
    """Tells the compiler that one program is to serve all numbers of tokens; it makes one of its own for a single token."""
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)  # there is no public name for "may"
