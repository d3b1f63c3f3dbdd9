"""Steps of a model with a static cache: on a GPU each of few sizes, recorded once as a CUDA graph and replayed ever after.

All that steps read and write lies in place: the host writes a small vector of integers before a step, and reads tokens after it.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from muxjax.model_spec import ModelSpec
from scripts.baselines.attention import Attention, Decode, prefill
from scripts.baselines.decoder import Decoder, Place, Weights, rope_table

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""Rows that decode steps are made for; those of larger caches are multiples of 64."""
PROMPTS = 32
"""Most prompts of one prefill."""
GRAPH_TOKENS = 2048
"""Prefills of more tokens keep the device busy long enough for the host to launch them one kernel after another."""


class Tokens(NamedTuple):
    """Each slot's last token, on its way to the host."""

    host: Tensor
    arrived: "torch.cuda.Event | None"

    def wait(self) -> list[int]:
        """By slot, once they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.host.tolist()


class Steps:
    """One model on one device.

    Args:
      rows: of the cache; it has one more, which padding is written to.
      max_len: most tokens of a row.
      compiled: makes a function fast, such as torch.compile.
    """

    def __init__(
        self, spec: ModelSpec, weights: Weights, way: Attention, *, rows: int, max_len: int, compiled: Callable[[Callable], Callable]
    ):
        self.device, self.rows, self.max_len, self.way = weights.embed.device, rows, max_len, way
        keys, values = ([way.empty_cache(rows + 1, max_len, spec, self.device) for _ in range(spec.layers)] for _ in range(2))
        self.decoder = Decoder(spec, weights, keys, values, compiled)
        self.sizes = tuple(sorted({*(size for size in (*ROWS, *range(320, rows, 64)) if size < rows), rows}))
        self.contexts = way.contexts(max_len)
        self._decode: Decode = compiled(way.decode) if way.fuses else way.decode
        self._turns = rope_table(spec, max_len, self.device)
        self._token = torch.zeros(rows + 1, dtype=torch.int64, device=self.device)
        self._slots = torch.arange(rows + 1, device=self.device)
        self._plan = torch.zeros(2, rows, dtype=torch.int32, device=self.device)
        self._packed = torch.zeros(_packed_size(GRAPH_TOKENS), dtype=torch.int32, device=self.device)
        self._graphs = Graphs(self.device)

    def set_plan(self, plan: np.ndarray) -> None:
        """Takes [2, rows] of `Slots` to the device."""
        self._plan.copy_(self._sent(plan), non_blocking=True)

    @torch.no_grad()
    def decode(self, rows: int, most: int) -> None:
        """A token for each of the first rows; sizes are of `sizes` and `contexts`."""
        self._graphs.run(("decode", rows, most), lambda: self._decode_rows(rows, most))

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Sequence[int]], slots: Sequence[int]) -> None:
        """Whole prompts into these slots, and the first token of each."""
        lengths = [len(prompt) for prompt in prompts]
        tokens = prefill_size(sum(lengths))
        packed = pack(prompts, slots, tokens=tokens, spare_slot=self.rows)
        if tokens > GRAPH_TOKENS:
            self._prefill(self._sent(packed).to(self.device, non_blocking=True), tokens, max(lengths))
            return
        self._packed[: len(packed)].copy_(self._sent(packed), non_blocking=True)
        self._graphs.run(("prefill", tokens), lambda: self._prefill(self._packed[: len(packed)], tokens, tokens))

    def tokens(self) -> Tokens:
        """The tokens of all slots as they are after what has been launched."""
        if self.device.type != "cuda":
            return Tokens(self._token.clone(), None)
        host = torch.empty(self._token.shape, dtype=self._token.dtype, pin_memory=True)
        host.copy_(self._token, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return Tokens(host, arrived)

    @torch.no_grad()
    def move(self, source: int, target: int, tokens: int) -> None:
        """A row to another slot."""
        for cache in (*self.decoder.keys, *self.decoder.values):
            cache[target, :tokens] = cache[source, :tokens]
        self._token[target] = self._token[source]

    def _sent(self, array: np.ndarray) -> Tensor:
        """A copy, from which the device may read whenever it comes to it."""
        copy = torch.from_numpy(array.copy())
        return copy.pin_memory() if self.device.type == "cuda" else copy

    def _decode_rows(self, rows: int, most: int) -> None:
        token, length = self._token[:rows], self._plan[0, :rows]
        told = self.way.rows(length + 1, most, self.max_len)
        keys, values = self.decoder.keys, self.decoder.values

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self._decode(q, keys[layer], values[layer], told)

        token.copy_(self.decoder.next_tokens(token, Place(self._slots[:rows], length.long(), self._turns), attend))
        length += self._plan[1, :rows]

    def _prefill(self, packed: Tensor, tokens: int, longest: int) -> None:
        token, slot, position, starts, pick, target = packed.split(_sections(tokens))
        starts = starts.clone()  # aligned, as kernels may want it

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return prefill(q, k, v, starts, longest)

        made = self.decoder.next_tokens(token.long(), Place(slot.long(), position.long(), self._turns), attend, pick.long())
        self._token[target.long()] = made


class Graphs:
    """Functions that are called again and again, replayed as CUDA graphs where there is a GPU; they return nothing."""

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._on_gpu else None
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """The first call of a key runs the function itself, which compiles what there is to compile, and then records it."""
        if graph := self._graphs.get(key):
            graph.replay()
            return
        function()
        if self._on_gpu:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                function()
            self._graphs[key] = graph


def prefill_size(tokens: int) -> int:
    """The size of the program for so many."""
    step = next((step for most, step in ((512, 64), (1024, 128), (GRAPH_TOKENS, 256)) if tokens <= most), 512)
    return -(-tokens // step) * step


def graph_sizes(most: int) -> tuple[int, ...]:
    """Of all prefills up to so many tokens that are recorded."""
    return tuple(sorted({prefill_size(tokens) for tokens in range(64, min(most, GRAPH_TOKENS) + 64, 64)}))


def pack(prompts: Sequence[Sequence[int]], slots: Sequence[int], *, tokens: int, spare_slot: int) -> np.ndarray:
    """The vector that tells a prefill all; what is left of its tokens and prompts belongs to the spare slot."""
    packed = np.zeros(_packed_size(tokens), np.int32)
    token, slot, position, starts, pick, target = np.split(packed, np.cumsum(_sections(tokens))[:-1])
    slot[:], target[:] = spare_slot, spare_slot
    at = 0
    for i, (prompt, of) in enumerate(zip(prompts, slots, strict=True)):
        end = at + len(prompt)
        token[at:end], slot[at:end], position[at:end] = prompt, of, np.arange(len(prompt))
        starts[i], pick[i], target[i] = at, end - 1, of
        at = end
    starts[len(prompts) :] = at
    return packed


def _sections(tokens: int) -> list[int]:
    """Sizes: token, slot and position of each token; starts, last token and slot of each prompt."""
    return [tokens, tokens, tokens, PROMPTS + 1, PROMPTS, PROMPTS]


def _packed_size(tokens: int) -> int:
    return sum(_sections(tokens))
