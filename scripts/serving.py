"""Models with random weights, as the server runs them: programs, unit, policy and loop, with few shapes to compile."""

import functools
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.buckets import PREFILL_ROWS, BatchShape, Buckets, smallest
from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.arena import OwnArenas
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape, kernels_of
from muxjax.device.programs.library import ProgramLibrary
from muxjax.engine.engine import MonotonicClock
from muxjax.engine.executor import SAMPLED
from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import Params
from muxjax.models.sharding import OWN, Devices
from muxjax.scheduler.policies import by_name
from muxjax.scheduler.view import StepPlan
from muxjax.types import Output, Phase, Request, Sampling
from scripts.ceilings import seconds

CALLS = 20
"""Steps that are timed together."""

TINY = ModelSpec(
    vocab=256, width=64, layers=2, heads=4, kv_heads=2, head_dim=32, ffn=96, max_len=4096, windows=(None, None), dtype="float32"
)
"""For runs that only show that a bench works."""


class Serving:
    """Models that are on the devices, of which the first is asked and alone has its steps compiled.

    Args:
      models: spec and weights of each.
      slots, max_tokens: sequences of each model, and their most tokens.
      arena_tokens: of the first model, that the arena holds beside a column for each slot to grow into.
      token_budget: most new tokens of one step's chunks.
      programs: the folder where they are kept; "" for none.
    """

    def __init__(
        self,
        models: Mapping[str, tuple[ModelSpec, Params]],
        *,
        slots: int,
        max_tokens: int,
        arena_tokens: int,
        token_budget: int,
        devices: Devices,
        programs: str = "",
    ):
        self.name, self.slots = next(iter(models)), slots
        device = devices.each[0]
        dtype = np.dtype(np.float32 if device.platform == "cpu" else jnp.bfloat16)
        layouts = {name: CacheLayout.of(spec.share(devices.tp), element_bytes=dtype.itemsize) for name, (spec, _) in models.items()}
        self.layout = layouts[self.name]
        self.total_blocks = self.layout.blocks(arena_tokens) + slots * self.layout.column_blocks
        device_models = {}
        for name, (spec, params) in models.items():
            kernels = kernels_of(spec, device_kind=device.device_kind, dtype=dtype)
            buckets = Buckets.of(
                layouts[name],
                slots=slots,
                max_tokens=max_tokens,
                token_budget=token_budget,
                prefill_rows=PREFILL_ROWS,
                ragged=kernels.ragged,
            )
            device_models[name] = DeviceModel.empty(
                spec,
                params,
                layout=layouts[name],
                buckets=buckets,
                slots=slots,
                max_tokens=max_tokens,
                devices=devices,
            )
        self.model = device_models[self.name]
        self.buckets = self.model.buckets
        shape = blocks_shape(self.total_blocks, self.layout.block_bytes, dtype, device)
        started = time.perf_counter()
        library = ProgramLibrary.open(devices, programs)
        list(self.model.compile(library, self.model.needs.of(self.model.shapes, shape)))
        self.compiled = {"compile_s": time.perf_counter() - started, "temporary_bytes": self.model.temporary_bytes}

        def random_blocks(whole: jax.ShapeDtypeStruct) -> jax.Array:
            return devices.join((jax.device_put(_random_blocks(shape), device) for device in devices.each), OWN)

        self.executor = DeviceExecutor(device_models, OwnArenas(devices.joined(shape, OWN), fill=random_blocks))
        self.unit = self._unit(layouts, max_tokens, token_budget)
        self.policy, self.clock = by_name("adbs"), MonotonicClock()

    def _unit(self, layouts: Mapping[str, CacheLayout], max_tokens: int, token_budget: int) -> Unit:
        configs = [ModelConfig(name=name, layout=layout, slots=self.slots, max_tokens=max_tokens) for name, layout in layouts.items()]
        unit = Unit(configs, total_blocks=self.total_blocks, token_budget=token_budget, max_rows=PREFILL_ROWS)
        unit.commit(StepPlan(quotas=dict.fromkeys(layouts, self.total_blocks)), now_s=0.0)
        return unit

    def step_s(self, phase: Phase, starts: np.ndarray, counts: np.ndarray, *, fresh: bool = True) -> float:
        """Seconds of a greedy step of those rows, run back to back.

        Args:
          fresh: the rows get blocks in random order first; else the tables stay as the unit left them.
        """
        if fresh:
            self.model.table_LSKC = self._random_table(len(starts), int((starts + counts).max()))
        decodes = len(starts) if phase is Phase.DECODE else 0
        shape = smallest(self.buckets.shapes(), self.buckets.size(starts, counts, decodes, self.model.layout))
        packed = packed_step(shape, starts, counts)
        return seconds(lambda calls: [self.executor.run(self.name, packed, shape) for _ in range(calls)][-1], calls=CALLS)

    def steady_s(self, *, rows: int, prompt_tokens: int, steps: int) -> tuple[float, int]:
        """Seconds a decode step takes in the loop, look-ahead and all, over so many steps once all rows decode; and the mean context."""
        self.executor.warm_up()
        self._submit([prompt_tokens] * rows, [2 * steps] * rows)
        made: dict[str, int] = {}
        while len(made) < rows or min(made.values()) < 4:
            self._count(made, self._turn())
        first, last, started = sum(made.values()), sum(made.values()), time.perf_counter()
        while last < first + rows * steps:
            self._count(made, self._turn())
            last = sum(made.values())
        wall_s = time.perf_counter() - started
        context = prompt_tokens + (first + last) // (2 * rows)
        self._finish()
        return wall_s * rows / (last - first), context

    def offline(self, prompts: Sequence[int], outputs: Sequence[int]) -> tuple[int, float]:
        """All requests at once: tokens made, and seconds until the last one."""
        self.executor.warm_up()
        self._submit(prompts, outputs)
        started, tokens = time.perf_counter(), 0
        while not self.unit.idle:
            tokens += len(self._turn())
        return tokens, time.perf_counter() - started

    def greedy(self, *, rows: int, prompt_tokens: int, output_tokens: int) -> list[list[int]]:
        """Prompts, each with its greedy continuation."""
        texts = {request.id: list(request.prompt) for request in self._submit([prompt_tokens] * rows, [output_tokens] * rows)}
        while not self.unit.idle:
            for output in self._turn():
                assert output.token is not None
                texts[output.request_id].append(output.token)
        return list(texts.values())

    def free(self) -> None:
        """Gives the arena's memory back; nothing can run any more."""
        del self.executor

    def _submit(self, prompts: Sequence[int], outputs: Sequence[int]) -> list[Request]:
        rng = np.random.default_rng(0)
        requests = []
        for i, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
            tokens = tuple(rng.integers(0, self.model.spec.vocab, prompt).tolist())
            sampling = Sampling(temperature=0.0, max_tokens=int(output))
            requests.append(Request(id=f"{i:06}", model=self.name, prompt=tokens, sampling=sampling, arrival_s=0.0))
            self.unit.submit(requests[-1])
        return requests

    def _turn(self) -> list[Output]:
        return turn(self.unit, self.policy, self.executor, self.clock)

    def _finish(self) -> None:
        while not self.unit.idle:
            self._turn()

    @staticmethod
    def _count(made: dict[str, int], outputs: list[Output]) -> None:
        for output in outputs:
            made[output.request_id] = made.get(output.request_id, 0) + 1

    def _random_table(self, rows: int, tokens: int) -> jax.Array:
        table = self.model.table_LSKC
        ids = np.zeros(table.shape, np.int32)
        held = ids[:, :rows, :, : self.layout.columns(tokens)]
        held[...] = np.random.default_rng(0).permutation(self.total_blocks)[: held.size].reshape(held.shape)
        return jax.device_put(ids, table.sharding)


def packed_step(shape: BatchShape, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The packed vector of a greedy step of rows in slots 0, 1, ...; a decode reads the tokens sampled last, a prefill random ones."""
    packed = batch.empty(shape)
    random = np.random.default_rng(0).integers(0, 200, shape.tokens)
    packed[: shape.tokens] = SAMPLED if shape.phase is Phase.DECODE else random
    fields = packed[shape.tokens :].reshape(len(batch.ROW_FIELDS), shape.rows)
    first = 0 if shape.phase is Phase.DECODE else shape.decode_rows
    for name, values in {"slot": np.arange(len(starts)), "start": starts, "count": counts}.items():
        fields[batch.ROW_FIELDS.index(name), first : first + len(starts)] = values
    return packed


@functools.partial(jax.jit, static_argnums=0)
def _random_blocks(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Not zeros, which hide errors and are faster to multiply; the same 64 MiB over and over, for lack of room to draw all at once."""
    rows, width = shape.shape
    drawn = jax.random.uniform(jax.random.key(1, impl="rbg"), (min(rows, 2**12), width), shape.dtype, -1, 1)
    return drawn[jnp.arange(rows) % len(drawn)]
