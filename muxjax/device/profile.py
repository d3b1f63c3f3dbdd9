"""Seconds of steps on the device in hand: random weights and tables, and the programs that serve."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.buckets import PREFILL_ROWS, BatchShape, Buckets
from muxjax.cache.layout import BLOCK_BYTES, CacheLayout
from muxjax.cache.table import TableDelta
from muxjax.device import batch
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.arena import OwnArenas
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape, kernels_of
from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.needs import ProgramNeeds
from muxjax.device.programs.sources import Source
from muxjax.engine.executor import SAMPLED, SAMPLING, Step, sampling_row
from muxjax.errors import require
from muxjax.model_spec import ModelSpec
from muxjax.models import weights
from muxjax.models.sharding import OWN, Devices
from muxjax.scheduler.view import TOKEN_GRAIN
from muxjax.types import Phase, Sampling

SLOTS = 256
"""Slots of the server whose buckets the programs are."""

ARENA_BYTES, CPU_ARENA_BYTES = 8 * 2**30, 64 * 2**20
"""Far more than a device's caches hold. Tables name any of its blocks, for more tokens than it has room for."""

MEMORY_FRACTION = 0.9
"""Of a device's memory, for steps."""

REPEATS, REPEAT_S, CALLS = 3, 0.1, (2, 20)
"""A point is the median of repeats of so many seconds, but within so many calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A step to measure.

    Args:
      count: sequences of a decode, new tokens of a prefill.
      context: tokens of each sequence of a decode, the new one included; positions that a new token of a prefill attends to in the
        mean, rounded down, and never less than half a prompt has.
    Raises:
      ConfigError: a value outside its range.
    """

    phase: Phase
    count: int
    context: int

    def __post_init__(self):
        require(self.count >= 1, f"{self.phase}.count", self.count, "1 or more")
        require(self.context >= 1, f"{self.phase}.context", self.context, "1 or more")
        if self.phase is Phase.DECODE:
            require(self.count <= SLOTS, "decode.count", self.count, f"at most {SLOTS}")
        else:
            require(self.count % TOKEN_GRAIN == 0, "prefill.count", self.count, f"a multiple of {TOKEN_GRAIN}")
            least = f"at least half of {self.count} tokens over {PREFILL_ROWS} prompts"
            require(any(self._fits(rows) for rows in range(1, PREFILL_ROWS + 1)), "prefill.context", self.context, least)

    @property
    def mean_context(self) -> float:
        """Context as `cost.prefill` and `cost.decode` have it: new tokens are even in number, so theirs is half a position more."""
        return self.context if self.phase is Phase.DECODE else self.context + 0.5

    @property
    def rows(self) -> int:
        """Sequences: of a prefill as few as their mean context allows, each with as many tokens."""
        return self.count if self.phase is Phase.DECODE else next(rows for rows in range(1, PREFILL_ROWS + 1) if self._fits(rows))

    @property
    def tokens(self) -> int:
        """New tokens of each row."""
        return self.count // self.rows

    @property
    def start(self) -> int:
        """Tokens of each row that are in the cache before."""
        return self.context - 1 if self.phase is Phase.DECODE else self.context - self.tokens // 2

    def _fits(self, rows: int) -> bool:
        tokens, rest = divmod(self.count, rows)
        return not rest and tokens % TOKEN_GRAIN == 0 and tokens // 2 <= self.context


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Devices to measure on: so many devices of one kind, by JAX's name of it."""

    device_kind: str
    devices: int


def claim() -> Machine:
    """Takes the devices' memory for steps."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", str(MEMORY_FRACTION))
    devices = jax.devices()
    return Machine(device_kind=devices[0].device_kind, devices=len(devices))


class Profiler:
    """A model with random weights on devices, and the programs of the points that are to be measured.

    Args:
      devices: that it is on; the first that JAX sees by default.
      programs: the folder where they are kept; "" for none.

    Attributes:
      model, executor: what runs the steps; the executor once all is compiled.
    """

    def __init__(self, spec: ModelSpec, points: Sequence[Point], *, devices: Devices | None = None, programs: str = ""):
        devices = devices or Devices.first(1)
        plan = _Plan.of(spec, points, devices)
        self._arena, self._needs = plan.pool, plan.needs.of(plan.needs.shapes, plan.pool, greedy=True)
        self.model = DeviceModel.empty(
            spec,
            weights.dummy(spec, devices),
            layout=plan.needs.layout,
            buckets=plan.needs.buckets,
            slots=SLOTS,
            max_tokens=plan.max_tokens,
            devices=devices,
        )
        self.model.table_LSKC = _random_tables(self.model.table_LSKC, plan.pool.shape[0])
        self._library = ProgramLibrary.open(devices, programs)

    @property
    def program_count(self) -> int:
        """Programs that `compile` compiles."""
        return len(self._needs)

    @property
    def steps(self) -> Mapping[BatchShape, jax.stages.Compiled]:
        """The programs of the points."""
        return self.model.steps

    def compile(self) -> Iterator[None]:
        """Yields when another program is there; then steps can be measured."""
        devices = self.model.devices
        yield from self.model.compile(self._library, self._needs)
        self.executor = DeviceExecutor({"": self.model}, OwnArenas(devices.joined(self._arena, OWN), fill=self._random_blocks))

    def _random_blocks(self, whole: jax.ShapeDtypeStruct) -> jax.Array:
        devices = self.model.devices
        keys = (jax.device_put(jax.random.key(0, impl="rbg"), device) for device in devices.each)
        return devices.join((jax.random.uniform(key, self._arena.shape, whole.dtype, -1, 1) for key in keys), OWN)

    def launcher(self, point: Point) -> Callable[[], jax.Array]:
        """What launches a step, and does not wait for the tokens [B] that it returns."""
        return partial(self.executor.run, "", *self.packed(point))

    def packed(self, point: Point) -> tuple[np.ndarray, BatchShape]:
        """A step as the device gets it, and the shape that it runs as."""
        step = _step(point)
        shape = self.model.shape(step)
        return batch.pack(step, shape), shape

    def seconds(self, point: Point) -> float:
        """Seconds of a step, run back to back."""
        launch = self.launcher(point)

        def run(calls: int) -> float:
            started = time.perf_counter()
            for _ in range(calls):
                tokens_B = launch()
            tokens_B.block_until_ready()
            return (time.perf_counter() - started) / calls

        run(1)
        calls = int(np.clip(REPEAT_S / run(1), *CALLS))
        return statistics.median(run(calls) for _ in range(REPEATS))


def sources(spec: ModelSpec, points: Sequence[Point], devices: Devices) -> list[Source]:
    """What the programs of points are made of, for devices that need not be here."""
    plan = _Plan.of(spec, points, devices)
    return plan.needs.of(plan.needs.shapes, plan.pool, greedy=True)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Programs that points fall into, and what they run on.

    Args:
      pool: head blocks of one device.
    """

    needs: ProgramNeeds
    max_tokens: int
    pool: jax.ShapeDtypeStruct

    @classmethod
    def of(cls, spec: ModelSpec, points: Sequence[Point], devices: Devices) -> "_Plan":
        device = devices.each[0]
        dtype = np.dtype(np.float32 if device.platform == "cpu" else jnp.bfloat16)
        layout = CacheLayout.of(spec.share(devices.tp), element_bytes=dtype.itemsize)
        kernels = kernels_of(spec, device_kind=device.device_kind, dtype=dtype)
        max_tokens = max(point.start + point.tokens for point in points)
        budget = max((point.count for point in points if point.phase is Phase.PREFILL), default=TOKEN_GRAIN)
        buckets = Buckets.of(
            layout, slots=SLOTS, max_tokens=max_tokens, token_budget=budget, prefill_rows=PREFILL_ROWS, ragged=kernels.ragged
        )
        own, columns = _only(buckets, points), layout.columns(max_tokens)
        total = (CPU_ARENA_BYTES if device.platform == "cpu" else ARENA_BYTES) // BLOCK_BYTES
        needs = ProgramNeeds(spec=spec, layout=layout, buckets=own, slots=SLOTS, columns=columns, tp=devices.tp)
        return cls(needs, max_tokens, blocks_shape(total, BLOCK_BYTES, dtype, device))


def _only(buckets: Buckets, points: Sequence[Point]) -> Buckets:
    """The buckets that the points fall into."""

    def sizes(ladder: tuple[int, ...], phase: Phase) -> tuple[int, ...]:
        return tuple(sorted({min(size for size in ladder if size >= point.count) for point in points if point.phase is phase}))

    prefills, decodes = sizes(buckets.tokens, Phase.PREFILL), sizes(buckets.decode_rows, Phase.DECODE)
    return replace(buckets, decode_rows=decodes, mixed_rows=(0,) if prefills else (), tokens=prefills)


def _random_tables(table_LSKC: jax.Array, total_blocks: int) -> jax.Array:
    """Tables of the same shape, full of blocks in no order."""
    ids = np.random.default_rng(0).integers(0, total_blocks, table_LSKC.shape, np.int32)
    return jax.device_put(ids, table_LSKC.sharding)


def _step(point: Point) -> Step:
    """Greedy, of rows in slots 0, 1, ...; a decode reads the tokens sampled last, a prefill random ones."""
    rows, decodes = point.rows, point.phase is Phase.DECODE
    nothing = np.zeros(0, np.int32)
    return Step(
        id=0,
        model="",
        decodes=rows if decodes else 0,
        slots=np.arange(rows, dtype=np.int32),
        starts=np.full(rows, point.start, np.int32),
        counts=np.full(rows, point.tokens, np.int32),
        tokens=np.full(rows, SAMPLED, np.int32) if decodes else np.random.default_rng(0).integers(0, 200, point.count, np.int32),
        sampling=np.array([sampling_row(Sampling(temperature=0.0))] * rows, SAMPLING),
        delta=TableDelta(nothing, nothing, nothing.reshape(0, 1, 1)),
    )
