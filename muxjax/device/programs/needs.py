"""What programs a model needs, before any of it is on a device."""

from collections.abc import Iterable
from dataclasses import dataclass

import jax

from muxjax.buckets import BatchShape, Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.programs.order import essential, useful_first
from muxjax.device.programs.sources import (
    ROW_PROGRAMS,
    LoraStepSource,
    PoolSource,
    PutAdapterSource,
    RecountSource,
    RowsSource,
    ScoreSource,
    Source,
    StepSource,
    TableSource,
    may_be_tuned,
)
from muxjax.model_spec import ModelSpec

Pool = jax.Array | jax.ShapeDtypeStruct
"""Head blocks of one device."""

LITTLE_WORK = 2**28
"""Parameters times tokens of a step that is done at once even on one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramNeeds:
    """Sources of all programs of one model.

    Args:
      layout: of the heads that one device holds.
      slots, columns: of its block tables.
      tp: devices.
      pools: its hidden states may be asked for.
      max_loras, max_lora_rank: places for adapters, and the largest rank of one.
    """

    spec: ModelSpec
    layout: CacheLayout
    buckets: Buckets
    slots: int
    columns: int
    tp: int
    pools: bool = False
    max_loras: int = 0
    max_lora_rank: int = 0

    @property
    def shapes(self) -> list[BatchShape]:
        """All that its steps are to have, in the order of their use: the largest of each kind come first."""
        return useful_first(self.buckets.shapes())

    @property
    def essential(self) -> list[BatchShape]:
        """Shapes that hold every step between them; where the largest one is done at once, that alone, for it holds decodes as well."""
        shapes = essential(self.buckets.shapes())
        return shapes[-1:] if self.spec.active_params * shapes[-1].tokens <= LITTLE_WORK else shapes

    def of_shape(self, shape: BatchShape, pool_NE: Pool) -> list[Source]:
        """What steps of a shape are made of, on such a pool: the step first, then all that may follow it."""
        return [self._step(shape, pool_NE), *self._post_step(shape)]

    def of_tables(self) -> list[Source]:
        """What updates of the tables are made of, in each of their sizes."""
        most = batch.delta_entries(max(self.slots, self.buckets.prefill_rows * self.columns))
        sizes = [4**power for power in range(16) if 4**power <= most]
        return [TableSource(layout=self.layout, slots=self.slots, columns=self.columns, entries=entries, tp=self.tp) for entries in sizes]

    def of_adapters(self) -> list[Source]:
        """What brings an adapter in is made of; nothing where there is no place for one."""
        return [PutAdapterSource(spec=self.spec, tp=self.tp, **self._places)] if self.max_loras else []

    def of(self, shapes: Iterable[BatchShape], pool_NE: Pool, *, greedy: bool = False) -> list[Source]:
        """What makes those shapes ready for such a pool, each once, and the updates of tables and adapters.

        Args:
          greedy: nobody will ask for more than the likeliest tokens.
        """
        steps = [source for shape in shapes for source in self.of_shape(shape, pool_NE)[: 1 if greedy else None]]
        return list(dict.fromkeys([*steps, *self.of_tables(), *self.of_adapters()]))

    @property
    def _places(self) -> dict[str, int]:
        """What sources say of adapters where there are places for some."""
        return {"max_loras": self.max_loras, "max_lora_rank": self.max_lora_rank} if self.max_loras else {}

    def _step(self, shape: BatchShape, pool_NE: Pool) -> StepSource:
        return (LoraStepSource if self._places else StepSource)(
            spec=self.spec,
            layout=self.layout,
            shape=shape,
            slots=self.slots,
            columns=self.columns,
            blocks=pool_NE.shape[0],
            block_elements=pool_NE.shape[1],
            kv_dtype=pool_NE.dtype.name,
            tp=self.tp,
            tuned=may_be_tuned(shape, self.spec),
            **self._places,
        )

    def _post_step(self, shape: BatchShape) -> list[Source]:
        slots, vocab, tp = self.slots, self.spec.vocab, self.tp
        sources: list[Source] = [RowsSource(name=name, rows=shape.rows, vocab=vocab, slots=slots, tp=tp) for name in ROW_PROGRAMS]
        sources.append(RecountSource(vocab=vocab, slots=slots, tp=tp))
        if shape.prefill_rows:
            sources.append(ScoreSource(spec=self.spec, tokens=shape.tokens, tp=tp))
        if shape.prefill_rows and self.pools:
            sources.append(PoolSource(tokens=shape.tokens, rows=shape.rows, width=self.spec.width, dtype=self.spec.dtype, tp=tp))
        return sources
