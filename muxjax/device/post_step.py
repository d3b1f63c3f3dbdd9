"""Programs that run behind a step, where its rows ask for more than its likeliest tokens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.device import batch
from muxjax.device.batch import BEYOND, EDITS, BatchShape
from muxjax.device.logprobs import TopTokens
from muxjax.device.penalties import MADE, MOST, PROMPT
from muxjax.device.step import lower_behind, lower_recount, lower_score
from muxjax.engine.executor import Step
from muxjax.engine.step_controls import NEUTRAL, Recount, StepControls, TopLogprobs
from muxjax.models.decoder import Params
from muxjax.models.sharding import SAME, Devices, device_bytes
from muxjax.types import ModelSpec


class StepResult(NamedTuple):
    """What a step has made: its tokens [B], and log-probabilities of them and of its prompts' tokens [T], where they were asked for."""

    tokens_B: jax.Array
    told: TopTokens | None = None
    scored: TopTokens | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What the rows of a shape ask, as the programs take it.

    Args:
      random: there is a row that is not greedy.
      counts: of slots that begin to decode, [V] each.
      penalties_B3, bits_BW: as in `shaping.shaped`; None where nobody has any.
      edits: [EDITS, 3] each; at least one where the logits are to be changed at all.
      counted_B: slots whose tokens are counted, BEYOND for the others; None where all are.
      follow_T: as in `step.score`.
    """

    random: bool = False
    counts: tuple[tuple[int, np.ndarray], ...] = ()
    penalties_B3: np.ndarray | None = None
    edits: tuple[np.ndarray, ...] = ()
    bits_BW: np.ndarray | None = None
    counted_B: np.ndarray | None = None
    tells: bool = False
    follow_T: np.ndarray | None = None


GREEDY, RANDOM = Packed(), Packed(random=True)


class PostStep:
    """The programs of one model, none of them compiled at first, and the counts that penalties go by.

    Attributes:
      counts_SV: see `step.adjust`; replaced by the programs.
    """

    def __init__(self, spec: ModelSpec, slots: int, devices: Devices):
        self._spec, self._devices, self._here = spec, devices, devices.sharding(SAME)
        self._compiled: dict[tuple[str, int], jax.stages.Compiled] = {}
        self._open: dict[int, jax.Array] = {}  # masks that allow all
        self.counts_SV = jnp.zeros((slots, spec.vocab), jnp.int16, device=self._here)

    def lower(self, params: Params, last_S: jax.Array, shapes: list[BatchShape]) -> Iterator[tuple[tuple[str, int], Callable]]:
        """What `keep` is to be given, by name and size, and compiles it."""
        yield ("recount", 0), lower_recount(self.counts_SV)
        for rows in dict.fromkeys(shape.rows for shape in shapes):  # in their order, which names depend on
            for name, compiling in lower_behind(rows, last_S, self.counts_SV).items():
                yield (name, rows), compiling
        for tokens in dict.fromkeys(shape.prefill_tokens for shape in shapes if shape.prefill_tokens):
            yield ("score", tokens), lower_score(params, tokens, last_S, spec=self._spec, mesh=self._devices.mesh)

    def program_count(self, shapes: list[BatchShape]) -> int:
        """That `lower` traces."""
        scores = {shape.prefill_tokens for shape in shapes if shape.prefill_tokens}
        return 1 + 4 * len({shape.rows for shape in shapes}) + len(scores)

    def keep(self, key: tuple[str, int], compiled: jax.stages.Compiled) -> None:
        self._compiled[key] = compiled

    @property
    def resident_bytes(self) -> int:
        """On one device."""
        return device_bytes(self.counts_SV)

    @property
    def temporary_bytes(self) -> int:
        """Most that the programs behind one step need together."""
        most: dict[str, int] = {}
        for (name, _), compiled in self._compiled.items():
            most[name] = max(most.get(name, 0), needed_bytes(compiled))
        return sum(most.values())

    def forget(self) -> None:
        """What steps in flight may have left undone is empty again."""
        self.counts_SV = jnp.zeros(self.counts_SV.shape, jnp.int16, device=self._here)

    def run(
        self, params: Params, made: tuple[jax.Array, jax.Array, jax.Array], last_S: jax.Array, packed_rows: np.ndarray, packed: Packed
    ) -> tuple[StepResult, jax.Array]:
        """Launches what is asked.

        Args:
          made: by a step: tokens, logits, and what is to be scored.
        Returns:
          what came of it, and the last_S that replaces the one given.
        """
        tokens_B, logits_BV, hidden_TM = made
        raw_BV, rows = logits_BV, len(tokens_B)
        for slot, count_V in packed.counts:
            self.counts_SV = self._compiled["recount", 0](self.counts_SV, np.int32(slot), count_V)
        penalties_B3 = _neutral(rows) if packed.penalties_B3 is None else packed.penalties_B3
        bits_BW = self._all_allowed(rows) if packed.bits_BW is None else packed.bits_BW
        for edits_U3 in packed.edits:
            shaping = self.counts_SV, packed_rows, penalties_B3, edits_U3, bits_BW
            tokens_B, logits_BV, last_S = self._compiled["adjust", rows](tokens_B, logits_BV, last_S, *shaping)
            penalties_B3 = _neutral(rows)
        if packed.random:
            tokens_B, last_S = self._compiled["draw", rows](tokens_B, logits_BV, last_S, packed_rows)
        if packed.counted_B is not None:
            self.counts_SV = self._compiled["count", rows](self.counts_SV, packed.counted_B, tokens_B)
        told = self._compiled["tell", rows](raw_BV, tokens_B) if packed.tells else None
        follow_T = packed.follow_T
        scored = None if follow_T is None else self._compiled["score", len(follow_T)](params, hidden_TM, follow_T)
        return StepResult(tokens_B, told, scored), last_S

    def pack(self, step: Step, shape: BatchShape) -> Packed:
        """What a step asks."""
        random = bool((step.sampling["temperature"] > 0).any())
        if step.controls is None:
            return RANDOM if random else GREEDY
        asked, places = step.controls, batch.row_places(step, shape)
        return Packed(
            random=random,
            counts=tuple((each.slot, self._count(each)) for each in asked.recounts),
            penalties_B3=_penalties(asked, places, shape.rows),
            edits=_edits(asked, places),
            bits_BW=self._bits(asked, places, shape.rows),
            counted_B=_counted(asked, step.slots, places, shape.rows),
            tells=asked.logprobs,
            follow_T=_follow(asked, step, shape),
        )

    def everything(self, shape: BatchShape) -> Packed:
        """What a warm-up runs: all programs, none of which changes anything but for slots beyond all."""
        vocab, rows = self._spec.vocab, shape.rows
        return Packed(
            random=True,
            counts=((BEYOND, np.zeros(vocab, np.int16)),),
            penalties_B3=_neutral(rows),
            edits=(_no_edits(),),
            bits_BW=np.full((rows, batch.mask_words(vocab)), 2**32 - 1, np.uint32),
            counted_B=np.full(rows, BEYOND, np.int32),
            tells=True,
            follow_T=np.zeros(shape.prefill_tokens, np.int32) if shape.prefill_tokens else None,
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

    def _bits(self, asked: StepControls, places: np.ndarray, rows: int) -> np.ndarray | None:
        if not asked.masks:
            return None
        bits_BW = np.full((rows, batch.mask_words(self._spec.vocab)), 2**32 - 1, np.uint32)
        for row, mask in asked.masks.items():
            bits_BW[places[row]] = 0
            bits_BW[places[row], : len(mask)] = mask[: bits_BW.shape[1]]
        return bits_BW


def needed_bytes(compiled: jax.stages.Compiled) -> int:
    """Of temporaries, and of results that do not take the place of what is given."""
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes if analysis else 0


def told_of(top: TopTokens | None, places: np.ndarray) -> TopLogprobs | None:
    """Those places of it, on the host."""
    return None if top is None else TopLogprobs(*(np.asarray(each)[places] for each in top))


def _neutral(rows: int) -> np.ndarray:
    return np.tile(np.array(NEUTRAL, np.float32), (rows, 1))


def _no_edits() -> np.ndarray:
    return np.full((EDITS, 3), BEYOND, np.int32)


def _penalties(asked: StepControls, places: np.ndarray, rows: int) -> np.ndarray | None:
    if asked.penalties is None:
        return None
    penalties_B3 = _neutral(rows)
    penalties_B3[places] = asked.penalties
    return penalties_B3


def _edits(asked: StepControls, places: np.ndarray) -> tuple[np.ndarray, ...]:
    """In pieces of EDITS; one of nothing where only penalties or masks change the logits."""
    if not len(asked.edits):
        return (_no_edits(),) if asked.penalties is not None or asked.masks else ()
    columns = places[asked.edits["row"]], asked.edits["token"], np.ascontiguousarray(asked.edits["add"]).view(np.int32)
    pieces = []
    for begin in range(0, len(asked.edits), EDITS):
        edits_U3 = _no_edits()
        for i, column in enumerate(columns):
            piece = column[begin : begin + EDITS]
            edits_U3[: len(piece), i] = piece
        pieces.append(edits_U3)
    return tuple(pieces)


def _counted(asked: StepControls, slots: np.ndarray, places: np.ndarray, rows: int) -> np.ndarray | None:
    if asked.penalties is None:
        return None
    counted_B = np.full(rows, BEYOND, np.int32)
    counted_B[places] = np.where((asked.penalties != np.array(NEUTRAL, np.float32)).any(axis=1), slots, BEYOND)
    return counted_B


def _follow(asked: StepControls, step: Step, shape: BatchShape) -> np.ndarray | None:
    if asked.follow is None:
        return None
    follow_T = np.zeros(shape.prefill_tokens, np.int32)
    follow_T[batch.token_places(step.counts[step.decodes :])] = asked.follow
    return follow_T
