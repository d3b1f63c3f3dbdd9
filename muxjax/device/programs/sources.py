"""What each program is made of, as values: hashable, alike in every process, and enough to trace and compile it anywhere.

The text of a source is the name under which its program is kept (`store`), so it tells all that the program depends on, and nothing
else: models of one vocabulary share the programs that only look at logits.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.buckets import BatchShape
from muxjax.cache.layout import CacheLayout
from muxjax.device import batch, step
from muxjax.device.batch import ROW_FIELDS
from muxjax.device.paged_memory import kernels_of
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import Params, param_shapes
from muxjax.models.layers import prompt_product
from muxjax.models.lora import stacks
from muxjax.models.lora.adapters import Pairs
from muxjax.models.sharding import OWN, SAME, Devices, partition
from muxjax.models.tree import flat, nested
from muxjax.pallas.kernels import best_product
from muxjax.specs.adapter import adapter_params
from muxjax.types import Phase

Options = dict[str, str | bool | int]

ROW_PROGRAMS = ("draw", "adjust", "count", "tell")
"""Those behind a step that look at its rows alone; see `step`."""

_GPU_OPTIONS: Options = {
    "xla_disable_hlo_passes": "rematerialization",
    "xla_gpu_enable_cub_radix_sort": False,
    "xla_gpu_experimental_enable_fusion_autotuner": False,
}
"""Rematerialization takes the arena, updated in place, for several arrays, and computes cheap values twice to make room for them.
CUB's sort fits in no CUDA graph: the conditional around filters would leave the graph, and the host wait for its predicate.
XLA's tuner is asked for products only: its choices of other fusions are named by sizes of tables and arena, so that those made for
one number of slots would do for no other."""

_CUBLAS: Options = {"xla_gpu_enable_triton_gemm": False}
"""All matrix products by cuBLASLt, which compiles in seconds, is fast without tuning, and reads a layer's slice of the stacked weights
where it lies."""


_QUANTISED: Options = {"xla_disable_hlo_passes": "rematerialization,slice-sinker"}
"""The slice sinker takes the widening of each layer's numbers for one of the whole stack, which a step would write before it reads it."""

_QUICK: Options = {"xla_backend_optimization_level": 0}
"""Kernels of a CPU as they come: made in half the time, and two to three times as slow, which matters little in a program that is small."""
_SMALL_VALUES = 2**17
"""Values that a small program looks at, at most."""


class Source(Protocol):
    """All that one program is made of; its repr is its name."""

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        """Traces it for devices, which need not be there: those of a topology will do."""
        ...

    def options(self, platform: str) -> Options:
        """How it is compiled."""
        ...


def program_name(source: Source, places: tuple[int, ...]) -> str:
    """Under which the program for those devices is kept, by their numbers; the first ones go without saying."""
    return repr(source) if places == tuple(range(len(places))) else f"{source!r} on devices {places}"


class _SmallSource:
    """A source without products that would be worth a choice."""

    __slots__ = ()

    def options(self, platform: str) -> Options:
        if platform == "gpu":
            return _GPU_OPTIONS
        return _QUICK if platform == "cpu" and self._values <= _SMALL_VALUES else {}

    @property
    def _values(self) -> int:
        """How many the program looks at, nearly."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSource:
    """A step of one model in one shape.

    Args:
      layout: of the heads that one device holds; slots, columns: of the model's block tables.
      blocks, block_elements, kv_dtype: of the arena of each device.
      tuned: on a GPU, of XLA's own products, for a shape that `may_be_tuned` and has been; of cuBLASLt's otherwise.
    """

    spec: ModelSpec
    layout: CacheLayout
    shape: BatchShape
    slots: int
    columns: int
    blocks: int
    block_elements: int
    kv_dtype: str
    tp: int
    tuned: bool

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        here, dtype, device_kind = devices.sharding(SAME), np.dtype(self.kv_dtype), devices.kind
        part = jax.ShapeDtypeStruct((self.blocks, self.block_elements), dtype)
        table = (self.layout.layers, self.slots, self.layout.kv_heads, self.columns)
        return step.step.lower(
            weight_shapes(self.spec, devices),
            devices.joined(part, OWN),
            jax.ShapeDtypeStruct((self.slots,), jnp.int32, sharding=here),
            jax.ShapeDtypeStruct(table, jnp.int32, sharding=here),
            _words(batch.words(self.shape)),
            *self._loras(devices),
            spec=self.spec,
            layout=self.layout,
            shape=self.shape,
            kernels=kernels_of(self.spec, device_kind=device_kind, dtype=dtype)._replace(product=self._product(device_kind)),
            mesh=devices.mesh,
        )

    def _product(self, device_kind: str) -> Callable:
        """What multiplies by the layers' matrices; a step that keeps to a share rounds no activations."""
        if self.shape.phase is Phase.PREFILL and self.shape.sm_share is None:
            return prompt_product(self.spec)
        return best_product(device_kind=device_kind, dtype=jnp.dtype(self.spec.dtype), ctas=self.shape.sm_share)

    def options(self, platform: str) -> Options:
        """By XLA's own products, tuned or not, a decode reads quantised matrices once; for cuBLASLt they are widened in memory."""
        own = {} if self.spec.quantization is None else _QUANTISED
        if platform != "gpu":
            return own
        keeps_numbers = own and self.shape.phase is Phase.DECODE
        return _GPU_OPTIONS | own | ({} if self.tuned or keeps_numbers else _CUBLAS)

    def _loras(self, devices: Devices) -> tuple[step.Loras, ...]:
        """Its last argument, where it has adapters."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraStepSource(StepSource):
    """A step whose rows may have adapters: so many at a time, up to that rank."""

    max_loras: int
    max_lora_rank: int

    def _loras(self, devices: Devices) -> tuple[step.Loras, ...]:
        pairs = lora_shapes(self.spec, self.max_loras, self.max_lora_rank, devices)
        return (step.Loras(pairs, _words(self.slots)),)  # pyright: ignore[reportArgumentType]  (shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAdapterSource(_SmallSource):
    """`step.put_adapter` for a model with so many places for adapters up to that rank."""

    spec: ModelSpec
    max_loras: int
    max_lora_rank: int
    tp: int

    @property
    def _values(self) -> int:
        return self.max_loras * adapter_params(self.spec, self.max_lora_rank)

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        pairs = lora_shapes(self.spec, self.max_loras, self.max_lora_rank, devices)
        one = adapter_shapes(self.spec, self.max_lora_rank, devices)
        return step.put_adapter.lower(pairs, one, _words(), spec=self.spec, mesh=devices.mesh)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsSource(_SmallSource):
    """One of ROW_PROGRAMS, for models of that vocabulary with so many slots."""

    name: str
    rows: int
    vocab: int
    slots: int
    tp: int

    @property
    def _values(self) -> int:
        return self.rows * self.vocab

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        here, rows = devices.sharding(SAME), self.rows
        tokens_B = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=here)
        logits_BV = jax.ShapeDtypeStruct((rows, self.vocab), jnp.float32, sharding=here)
        last_S = jax.ShapeDtypeStruct((self.slots,), jnp.int32, sharding=here)
        counts_SV = _counts(self.slots, self.vocab, here)
        packed_rows, penalties_B3 = _words(len(ROW_FIELDS) * rows), jax.ShapeDtypeStruct((rows, 3), jnp.float32)
        bits_BW = jax.ShapeDtypeStruct((rows, batch.mask_words(self.vocab)), jnp.uint32, sharding=here)
        lower: dict[str, Callable[[], jax.stages.Lowered]] = {
            "draw": lambda: step.draw.lower(tokens_B, logits_BV, last_S, packed_rows),
            "adjust": lambda: step.adjust.lower(
                tokens_B, logits_BV, last_S, counts_SV, packed_rows, penalties_B3, _words(batch.EDITS, 3), bits_BW
            ),
            "count": lambda: step.count.lower(counts_SV, _words(rows), tokens_B),
            "tell": lambda: step.tell.lower(logits_BV, tokens_B),
        }
        return lower[self.name]()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecountSource(_SmallSource):
    """`step.recount` for models of that vocabulary with so many slots."""

    vocab: int
    slots: int
    tp: int

    @property
    def _values(self) -> int:
        return self.vocab

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        counts_SV = _counts(self.slots, self.vocab, devices.sharding(SAME))
        return step.recount.lower(counts_SV, _words(), jax.ShapeDtypeStruct((self.vocab,), counts_SV.dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSource(_SmallSource):
    """`step.score` for chunks of so many tokens together."""

    spec: ModelSpec
    tokens: int
    tp: int

    @property
    def _values(self) -> int:
        return self.tokens * self.spec.vocab

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        hidden = jax.ShapeDtypeStruct((self.tokens, self.spec.width), jnp.dtype(self.spec.dtype), sharding=devices.sharding(SAME))
        return step.score.lower(weight_shapes(self.spec, devices), hidden, _words(self.tokens), spec=self.spec, mesh=devices.mesh)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSource(_SmallSource):
    """`step.pool` for steps of so many tokens and rows."""

    tokens: int
    rows: int
    width: int
    dtype: str
    tp: int

    @property
    def _values(self) -> int:
        return self.tokens * self.width

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        hidden = jax.ShapeDtypeStruct((self.tokens, self.width), jnp.dtype(self.dtype), sharding=devices.sharding(SAME))
        return step.pool.lower(hidden, _words(self.tokens), rows=self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSource(_SmallSource):
    """`step.update_table` of so many entries, for tables of that layout."""

    layout: CacheLayout
    slots: int
    columns: int
    entries: int
    tp: int

    @property
    def _values(self) -> int:
        return self.entries * self.layout.column_blocks

    def lower(self, devices: Devices) -> jax.stages.Lowered:
        layers, kv_heads = self.layout.layers, self.layout.kv_heads
        table_LSKC = jax.ShapeDtypeStruct((layers, self.slots, kv_heads, self.columns), jnp.int32, sharding=devices.sharding(SAME))
        return step.update_table.lower(table_LSKC, _words(self.entries, 2 + layers * kv_heads))


@functools.lru_cache(maxsize=32)
def weight_shapes(spec: ModelSpec, devices: Devices) -> Params:
    """The tree of a model's weights as they lie on the devices, without their memory."""
    parts = flat(param_shapes(spec.share(devices.tp)))
    return nested({path: devices.joined(leaf, partition(path, leaf.ndim, spec)) for path, leaf in parts.items()})


def lora_shapes(spec: ModelSpec, places: int, rank: int, devices: Devices) -> Pairs:
    """The tree of a model's places for adapters as they lie on the devices, without their memory."""
    parts = stacks.shapes(spec.share(devices.tp), places, rank)
    return jax.tree.map(devices.joined, parts, stacks.partitions(spec, places=True))


def adapter_shapes(spec: ModelSpec, rank: int, devices: Devices) -> Pairs:
    """Likewise of what is put into one of them."""
    return jax.tree.map(devices.joined, stacks.one_shapes(spec.share(devices.tp), rank), stacks.partitions(spec, places=False))


def may_be_tuned(shape: BatchShape, spec: ModelSpec) -> bool:
    """Whether XLA's own products (Triton, with split sums) are the faster ones: on an H200 up to 32 rows, and from 64 to 128 again; and in
    any decode that reads quantised matrices."""
    return shape.phase is Phase.DECODE and (shape.rows <= 32 or 64 < shape.rows <= 128 or spec.quantization is not None)


def untuned(source: Source) -> Source:
    """The same program by products that need no tuning."""
    return replace(source, tuned=False) if isinstance(source, StepSource) else source


def _counts(slots: int, vocab: int, here: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((slots, vocab), jnp.int16, sharding=here)


def _words(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)
