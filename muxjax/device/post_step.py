"""Programs that run behind a step, where its rows ask for more than its likeliest tokens: logits processors, draws, log-probabilities."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from muxjax.buckets import BatchShape
from muxjax.device import batch
from muxjax.device.batch import BEYOND, EDITS
from muxjax.device.logprobs import TopTokens
from muxjax.device.penalties import MADE, MOST, PROMPT
from muxjax.device.programs.sources import PoolSource, RecountSource, RowsSource, ScoreSource, Source
from muxjax.device.step import StepArrays
from muxjax.engine.executor import Step
from muxjax.engine.step_controls import NEUTRAL, NO_ROW, Recount, StepControls, TopLogprobs
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import Params
from muxjax.models.sharding import SAME, Devices, device_bytes


class StepResult(NamedTuple):
    """Result of a step: its tokens [B], and where rows ask for them log-probabilities of them and of its prompts' tokens [T], and sums of
    hidden states [B, M]."""

    tokens_B: jax.Array
    logprobs: TopTokens | None = None
    prompt_logprobs: TopTokens | None = None
    hidden_BM: jax.Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedControls:
    """The step controls of a shape's rows, as the programs take them.

    Args:
      random: there is a row that is not greedy.
      counts: of slots that begin to decode, [V] each.
      penalties_B3, bits_BW: as in `penalties.process_logits`; None where nobody has any.
      edits: [EDITS, 3] each; at least one where the logits are to be changed at all.
      count_slot_B: slots whose tokens are counted, BEYOND for the others; None where all are.
      logprobs: the tokens' are wanted.
      follow_T: as in `step.score`; pool_T: as in `step.pool`.
    """

    random: bool = False
    counts: tuple[tuple[int, np.ndarray], ...] = ()
    penalties_B3: np.ndarray | None = None
    edits: tuple[np.ndarray, ...] = ()
    bits_BW: np.ndarray | None = None
    count_slot_B: np.ndarray | None = None
    logprobs: bool = False
    follow_T: np.ndarray | None = None
    pool_T: np.ndarray | None = None


GREEDY, RANDOM = PackedControls(), PackedControls(random=True)


class PostStep:
    """The programs of one model, none of them compiled at first, and the counts that penalties go by.

    Args:
      pools: hidden states may be asked for.
    Attributes:
      counts_SV: see `step.adjust`; replaced by the programs.
    """

    def __init__(self, spec: ModelSpec, slots: int, devices: Devices, *, pools: bool = False):
        self._spec, self._devices, self._here, self._pools = spec, devices, devices.sharding(SAME), pools
        self._compiled: dict[tuple[str, *tuple[int, ...]], jax.stages.Compiled] = {}
        self._open: dict[int, jax.Array] = {}  # masks that allow all
        self.counts_SV = devices.zeros((slots, spec.vocab), np.int16)

    def add(self, source: Source, program: jax.stages.Compiled) -> None:
        """Makes a program ready that may follow a step."""
        self._compiled[_key(source)] = program

    @property
    def resident_bytes(self) -> int:
        """Counts, on one device."""
        return device_bytes(self.counts_SV)

    @property
    def temporary_bytes(self) -> int:
        """Most that the programs behind one step need together."""
        most: dict[str, int] = {}
        for (name, *_), compiled in self._compiled.items():
            most[name] = max(most.get(name, 0), needed_bytes(compiled))
        return sum(most.values())

    def reset(self) -> None:
        """Empties what steps in flight may have left undone."""
        self.counts_SV = self._devices.zeros(self.counts_SV.shape, np.int16)

    def run(self, params: Params, step: StepArrays, packed_rows: np.ndarray, controls: PackedControls) -> tuple[StepResult, jax.Array]:
        """Launches what rows ask behind a step.

        Args:
          packed_rows: what follows the tokens in a step of `batch.pack`.
        Returns:
          the step's result, and the last_S that replaces the step's.
        """
        tokens_B, logits_BV, last_S, rows = step.tokens_B, step.logits_BV, step.last_S, len(step.tokens_B)
        for slot, count_V in controls.counts:
            self.counts_SV = self._compiled[("recount",)](self.counts_SV, np.int32(slot), count_V)
        penalties_B3 = controls.penalties_B3
        for edits_U3 in controls.edits:
            penalties_B3 = _neutral(rows) if penalties_B3 is None else penalties_B3
            bits_BW = self._all_allowed(rows) if controls.bits_BW is None else controls.bits_BW
            tokens_B, logits_BV, last_S = self._compiled["adjust", rows](
                tokens_B, logits_BV, last_S, self.counts_SV, packed_rows, penalties_B3, edits_U3, bits_BW
            )
            penalties_B3 = None
        if controls.random:
            tokens_B, last_S = self._compiled["draw", rows](tokens_B, logits_BV, last_S, packed_rows)
        if controls.count_slot_B is not None:
            self.counts_SV = self._compiled["count", rows](self.counts_SV, controls.count_slot_B, tokens_B)
        logprobs = self._compiled["tell", rows](step.logits_BV, tokens_B) if controls.logprobs else None
        follow_T = controls.follow_T
        prompt_logprobs = None if follow_T is None else self._compiled["score", len(follow_T)](params, step.hidden_TM, follow_T)
        pool_T = controls.pool_T
        hidden_BM = None if pool_T is None else self._compiled["pool", len(pool_T), rows](step.hidden_TM, pool_T)
        return StepResult(tokens_B, logprobs, prompt_logprobs, hidden_BM), last_S

    def pack(self, step: Step, shape: BatchShape) -> PackedControls:
        """The controls of a step's rows in that shape."""
        random = bool(np.count_nonzero(step.sampling["temperature"]))
        if step.controls is None:
            return RANDOM if random else GREEDY
        controls, places = step.controls, batch.row_places(step, shape)
        return PackedControls(
            random=random,
            counts=tuple((recount.slot, self._count(recount)) for recount in controls.recounts),
            penalties_B3=_penalties(controls, places, shape.rows),
            edits=_edits(controls, places),
            bits_BW=self._bits(controls, places, shape.rows),
            count_slot_B=_count_slots(controls, step.slots, places, shape.rows),
            logprobs=controls.logprobs,
            follow_T=_follow(controls, step, shape),
            pool_T=_pool(controls, step, shape, places),
        )

    def warm_up_controls(self, shape: BatchShape) -> PackedControls:
        """Controls that run all programs, none of which changes anything but for slots beyond all: what a warm-up runs."""
        vocab, rows = self._spec.vocab, shape.rows
        return PackedControls(
            random=True,
            counts=((BEYOND, np.zeros(vocab, np.int16)),),
            penalties_B3=_neutral(rows),
            edits=(_no_edits(),),
            bits_BW=None,  # so that the mask that allows all is on the devices before a request needs it
            count_slot_B=np.full(rows, BEYOND, np.int32),
            logprobs=True,
            follow_T=np.zeros(shape.tokens, np.int32) if shape.prefill_rows else None,
            pool_T=np.full(shape.tokens, NO_ROW, np.int32) if shape.prefill_rows and self._pools else None,
        )

    def _all_allowed(self, rows: int) -> jax.Array:
        """Stays on the devices: most penalized steps have no mask."""
        if rows not in self._open:
            mask_BW = np.full((rows, batch.mask_words(self._spec.vocab)), 2**32 - 1, np.uint32)
            self._open[rows] = jax.device_put(mask_BW, self._here)
        return self._open[rows]

    def _count(self, recount: Recount) -> np.ndarray:
        """[V] int16."""
        count_V = np.minimum(MADE * np.bincount(recount.output, minlength=self._spec.vocab), MOST).astype(np.int16)
        count_V[np.unique(recount.prompt)] += PROMPT
        return count_V

    def _bits(self, controls: StepControls, places: np.ndarray, rows: int) -> np.ndarray | None:
        if not controls.masks:
            return None
        bits_BW = np.full((rows, batch.mask_words(self._spec.vocab)), 2**32 - 1, np.uint32)
        for row, mask in controls.masks.items():
            bits_BW[places[row]] = 0
            bits_BW[places[row], : len(mask)] = mask[: bits_BW.shape[1]]
        return bits_BW


def _key(source: Source) -> tuple[str, *tuple[int, ...]]:
    """Name and sizes, by which `run` finds it."""
    match source:
        case RowsSource():
            return source.name, source.rows
        case RecountSource():
            return ("recount",)
        case ScoreSource():
            return "score", source.tokens
        case PoolSource():
            return "pool", source.tokens, source.rows
    raise TypeError(f"nothing follows a step that is made of {source}")


def needed_bytes(compiled: jax.stages.Compiled) -> int:
    """Memory of temporaries, and of results that do not take the place of arguments."""
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes if analysis else 0


def logprobs_of(top: TopTokens | None, places: np.ndarray) -> TopLogprobs | None:
    """Log-probabilities at those places, on the host."""
    return None if top is None else TopLogprobs(*(np.asarray(array)[places] for array in top))


def _neutral(rows: int) -> np.ndarray:
    return np.tile(np.array(NEUTRAL, np.float32), (rows, 1))


def _no_edits() -> np.ndarray:
    return np.full((EDITS, 3), BEYOND, np.int32)


def _penalties(controls: StepControls, places: np.ndarray, rows: int) -> np.ndarray | None:
    if controls.penalties is None:
        return None
    penalties_B3 = _neutral(rows)
    penalties_B3[places[: len(controls.penalties)]] = controls.penalties
    return penalties_B3


def _edits(controls: StepControls, places: np.ndarray) -> tuple[np.ndarray, ...]:
    """In pieces of EDITS; one of nothing where only penalties or masks change the logits."""
    if not len(controls.edits):
        return (_no_edits(),) if controls.penalties is not None or controls.masks else ()
    columns = places[controls.edits["row"]], controls.edits["token"], np.ascontiguousarray(controls.edits["add"]).view(np.int32)
    pieces = []
    for begin in range(0, len(controls.edits), EDITS):
        edits_U3 = _no_edits()
        for i, column in enumerate(columns):
            piece = column[begin : begin + EDITS]
            edits_U3[: len(piece), i] = piece
        pieces.append(edits_U3)
    return tuple(pieces)


def _count_slots(controls: StepControls, slots: np.ndarray, places: np.ndarray, rows: int) -> np.ndarray | None:
    if controls.penalties is None:
        return None
    slot_B = np.full(rows, BEYOND, np.int32)
    slot_B[places[: len(slots)]] = np.where((controls.penalties != np.array(NEUTRAL, np.float32)).any(axis=1), slots, BEYOND)
    return slot_B


def _follow(controls: StepControls, step: Step, shape: BatchShape) -> np.ndarray | None:
    if controls.follow is None:
        return None
    follow_T = np.zeros(shape.tokens, np.int32)
    follow_T[batch.token_places(step)] = controls.follow
    return follow_T


def _pool(controls: StepControls, step: Step, shape: BatchShape, places: np.ndarray) -> np.ndarray | None:
    if controls.pool is None:
        return None
    pool_T = np.full(shape.tokens, NO_ROW, np.int32)
    pool_T[batch.token_places(step)] = np.where(controls.pool == NO_ROW, NO_ROW, places[controls.pool])
    return pool_T
