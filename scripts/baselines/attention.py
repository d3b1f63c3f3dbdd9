"""Attention of torch alone over a static cache, in several ways, and which of them is the fastest here.

B rows decode a token each, S tokens a row of the cache has room for; H, K, D as in decoder, G query heads share a kv head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from muxjax.model_spec import ModelSpec
from scripts.baselines.timing import seconds


class Rows(NamedTuple):
    """What a step says of its rows, the same for all layers.

    Args:
      used: [B] int32, tokens that each reads; most: at least as many as any.
      starts, cache_starts: [B + 1] int32, of rows of one token each, and of rows of S tokens each.
      unused: [B, most] bool, places of the cache that a row does not read; None for ways that need none.
    """

    used: Tensor
    most: int
    starts: Tensor
    cache_starts: Tensor
    unused: Tensor | None


Decode = Callable[[Tensor, Tensor, Tensor, Rows], Tensor]
"""Of q [B, H, D], and keys and values [rows, S, K, D] of at least B rows; returns [B, H, D]."""


@dataclass(frozen=True, slots=True)
class Attention:
    """A way to decode.

    Args:
      head_major: how the cache lies best: [rows, K, S, D], or else [rows, S, K, D].
      ragged: each row reads its own tokens only, so that programs for several contexts are not needed.
      fuses: a compiler has something to fuse in it.
    """

    decode: Decode
    head_major: bool
    ragged: bool
    fuses: bool

    def contexts(self, max_len: int) -> tuple[int, ...]:
        """Most tokens of a row that programs are made for, ascending."""
        step = max(256, -(-max_len // 8))
        return (max_len,) if self.ragged else tuple(sorted({*range(step, max_len, step), max_len}))

    def rows(self, used: Tensor, most: int, cache_tokens: int) -> Rows:
        """Of a step, where a row of the cache has room for so many tokens."""
        starts = torch.arange(len(used) + 1, dtype=torch.int32, device=used.device)
        unused = None if self.ragged else torch.arange(most, device=used.device) >= used.unsqueeze(1)
        return Rows(used, most, starts, starts * cache_tokens, unused)

    def empty_cache(self, rows: int, tokens: int, spec: ModelSpec, device: torch.device) -> Tensor:
        """[rows, S, K, D] of one layer's keys or values, zeros."""
        dtype, (middle, inner) = getattr(torch, spec.dtype), (spec.kv_heads, tokens) if self.head_major else (tokens, spec.kv_heads)
        cache = torch.zeros(rows, middle, inner, spec.head_dim, dtype=dtype, device=device)
        return cache.transpose(1, 2) if self.head_major else cache


def flash(q: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    """The flash kernels that torch brings, told how many tokens of each row count: they read no others, a kv head once for its group, and
    split long rows over processors where there are few."""
    return _flash(q, keys, values, rows.starts, rows.cache_starts, (1, rows.most), used=rows.used)


def matmul(q: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    """Two batched products, which read a kv head once for its group."""
    (count, _, head_dim), most = q.shape, rows.most
    keys, values = keys[:count, :most].transpose(1, 2), values[:count, :most].transpose(1, 2)
    scores = (q * head_dim**-0.5).view(count, keys.shape[1], -1, head_dim) @ keys.mT
    assert rows.unused is not None
    masked = scores.float().masked_fill(rows.unused[:, None, None], float("-inf"))
    return (masked.softmax(dim=-1).to(q.dtype) @ values).view(q.shape)


def sdpa(q: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    """scaled_dot_product_attention with a mask, whatever kernel it takes."""
    count, most = len(q), rows.most
    keys, values = keys[:count, :most].transpose(1, 2), values[:count, :most].transpose(1, 2)
    assert rows.unused is not None
    mask = ~rows.unused[:, None, None]
    return F.scaled_dot_product_attention(q.unsqueeze(2), keys, values, attn_mask=mask, enable_gqa=True).squeeze(2)


WAYS: Mapping[str, Attention] = {
    "flash": Attention(flash, head_major=False, ragged=True, fuses=False),
    "matmul": Attention(matmul, head_major=True, ragged=False, fuses=True),
    "sdpa": Attention(sdpa, head_major=True, ragged=False, fuses=False),
}


def usable(device: torch.device) -> tuple[str, ...]:
    """Names of ways that run there."""
    return tuple(WAYS) if device.type == "cuda" else ("matmul", "sdpa")


def decode_s(way: Attention, decode: Decode, spec: ModelSpec, device: torch.device, *, rows: int = 32, context: int = 1024) -> float:
    """Seconds that a layer's attention takes, of rows that are half to wholly full."""
    keys, values = (way.empty_cache(rows, context, spec, device).normal_() for _ in range(2))
    q = torch.randn(rows, spec.heads, spec.head_dim, dtype=keys.dtype, device=device)
    told = way.rows(torch.linspace(context // 2, context, rows, device=device).int(), context, context)
    return seconds(lambda: decode(q, keys, values, told), device)


def fastest(spec: ModelSpec, device: torch.device, compiled: Callable[[Callable], Callable]) -> tuple[str, dict[str, float]]:
    """The name, and the seconds of each way that runs; one that fails is left out, and told of."""
    spent = {}
    for name in usable(device):
        way = WAYS[name]
        try:
            spent[name] = decode_s(way, compiled(way.decode) if way.fuses else way.decode, spec, device)
        except RuntimeError as error:
            print(f"attention {name} does not run here: {error}", flush=True)
    return min(spent, key=spent.__getitem__), spent


def prefill(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int) -> Tensor:
    """Causal, of whole prompts one behind the other.

    Args:
      q, k, v: [T, H, D] and [T, K, D]; starts: [prompts + 1] int32, where each begins and the last ends; longest: at least their tokens.
    Returns:
      [T, H, D]; of tokens behind the last prompt it is anything.
    """
    if q.is_cuda and q.dtype != torch.float32:
        return _flash(q, k, v, starts, starts, (longest, longest), causal=True)
    out, bounds = torch.zeros_like(q), starts.tolist()
    for begin, end in pairwise(bounds):
        if end > begin:
            q_1, k_1, v_1 = (part[begin:end].transpose(0, 1).unsqueeze(0) for part in (q, k, v))
            out[begin:end] = F.scaled_dot_product_attention(q_1, k_1, v_1, is_causal=True, enable_gqa=True)[0].transpose(0, 1)
    return out


def _flash(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    q_starts: Tensor,
    kv_starts: Tensor,
    longest: tuple[int, int],
    *,
    causal: bool = False,
    used: Tensor | None = None,
) -> Tensor:
    """torch.nn.attention.varlen is this call, but for `seqused_k`, which it has since torch 2.12 only."""
    keys, values = (cache.flatten(0, 1) if cache.dim() == 4 else cache for cache in (keys, values))
    attend = torch.ops.aten._flash_attention_forward
    return attend(q, keys, values, q_starts, kv_starts, *longest, 0.0, causal, False, seqused_k=used)[0]
