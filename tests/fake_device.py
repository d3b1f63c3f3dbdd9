"""A device made of dictionaries: it runs steps as a real one would, and looks at every head block it reads."""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.engine.executor import NOTHING_LEFT, SAMPLED, Done, Step
from muxjax.engine.step_controls import StepControls, TopLogprobs
from muxjax.types import MOST_LOGPROBS, Bools

VOCAB = 50
NOBODYS = 10**6
"""In place of the token sampled last: a step that reads it is none that could be."""


class FakeClock:
    """Time that a test moves."""

    def __init__(self):
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    def advance_to(self, at_s: float) -> None:
        self.at_s = max(self.at_s, at_s)


def next_token(model: str, tokens: Sequence[int], vocab: int = VOCAB) -> int:
    """The "model": any change of any token before changes it."""
    state = len(model) + sum(map(ord, model))
    for token in tokens:
        state = (state * 31 + token + 7) % 1_000_003
    return state % vocab


def continuation(model: str, prompt: Sequence[int], count: int) -> list[int]:
    """What a request must get, however it is scheduled."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(model, tokens))
    return tokens[len(prompt) :]


class FakeDevice:
    """An executor of `next_token` models. Each token leaves a mark in its cell of every layer's and head's block, and each step
    checks that the marks of all tokens it can see are still its own sequence's.

    The first steps of all lanes run at once, and each does all it does twice: when it begins and when it ends, since nobody may
    touch what it reads or writes in between.

    Args:
      eager: how many steps finish by themselves before anybody waits for them, step by step; repeated for ever.
      order: whose first step ends next, by its place among the lanes that have one; repeated for ever.
    """

    def __init__(
        self,
        layouts: Mapping[str, CacheLayout],
        clock: FakeClock,
        *,
        eager: Sequence[int] = (0,),
        order: Sequence[int] = (0,),
        step_s: float = 0.01,
    ):
        self._layouts, self._clock, self._step_s = layouts, clock, step_s
        self._eager, self._order = deque(eager), deque(order)
        self._lanes: dict[int, deque[Step]] = {}  # none is empty
        self._tables: dict[tuple[str, int, int, int], np.ndarray] = {}  # (model, slot, column, layer) -> block of each head
        self._cells: dict[tuple[int, int], tuple] = {}  # (block, offset) -> mark
        self._history: dict[tuple[str, int], list[int]] = {}
        self._sampled: dict[tuple[str, int], int] = {}

    def launch(self, step: Step) -> None:
        lane = self._lanes.setdefault(step.lane, deque())
        lane.append(step)
        if len(lane) == 1:
            self._run(step)

    def wake(self) -> None:
        """It never waits."""

    def collect(self, *, wait: bool) -> list[Done]:
        count = max(int(wait), self._eager[0])
        self._eager.rotate(-1)
        done = []
        while self._lanes and len(done) < count:
            done.append(self._finish_first(sorted(self._lanes)[self._order[0] % len(self._lanes)]))
            self._order.rotate(-1)
        return done

    def _finish_first(self, lane: int) -> Done:
        done = self._finish(self._lanes[lane].popleft())
        if self._lanes.get(lane):
            self._run(self._lanes[lane][0])
        else:
            self._lanes.pop(lane, None)
        return done

    def _finish(self, step: Step) -> Done:
        self._clock.advance_to(self._clock.now_s() + self._step_s)
        self._look(step)  # nobody has touched it since it began
        self._run(step)
        sampled = np.array(
            [
                self._sample(step.model, slot, end, _allowed(step.controls, row))
                for row, (slot, end) in enumerate(zip(step.slots.tolist(), (step.starts + step.counts).tolist(), strict=True))
            ],
            np.int32,
        )
        sampled, controls = np.concatenate([sampled, np.array(self._behind_drafts(step), np.int32)]), step.controls
        return Done(
            step_id=step.id,
            tokens=sampled,
            at_s=self._clock.now_s(),
            logprobs=_logprobs(sampled) if controls and controls.logprobs else None,
            prompt_logprobs=_logprobs(controls.follow) if controls and controls.follow is not None else None,
        )

    def _run(self, step: Step) -> None:
        """Everything but what it samples; as often as one likes."""
        for slot, column, ids_LK in zip(*step.delta, strict=True):
            if column == 0:
                self._history.pop((step.model, int(slot)), None)  # another sequence has it
            for layer, ids_K in enumerate(ids_LK):
                self._tables[step.model, int(slot), int(column), layer] = ids_K
        slots, starts, ends = step.slots.tolist(), step.starts.tolist(), np.cumsum(step.counts)[:-1]
        _check_rows(step)
        for slot, start, tokens in zip(slots, starts, np.split(step.tokens, ends), strict=True):
            self._extend(step.model, slot, start, tokens.tolist())
        for slot, position, token in _drafts(step):
            self._extend(step.model, slot, position, [token])
        self._look(step)  # when all rows have written, as on a device

    def _extend(self, model: str, slot: int, start: int, tokens: list[int]) -> None:
        if (model, slot) not in self._history:
            self._history[model, slot] = self._cached(model, slot, start)
        history = self._history[model, slot] = self._history[model, slot][:start]
        assert len(history) == start, "a step begins beyond what the slot has computed"
        for token in tokens:
            history.append(self._sampled[model, slot] if token == SAMPLED else token)
            self._write(model, slot, len(history) - 1, history)

    def _cached(self, model: str, slot: int, start: int) -> list[int]:
        """Tokens before `start` in a slot that begins there, by the mark of the last of them: `_look` compares the others."""
        if start == 0:
            return []
        column, offset = divmod(start - 1, self._layouts[model].tokens_per_block)
        *_, tokens = self._cells[int(self._tables[model, slot, column, 0][0]), offset]
        return list(tokens)

    def _look(self, step: Step) -> None:
        """At all that the step's rows see."""
        for slot, start in zip(step.slots.tolist(), step.starts.tolist(), strict=True):
            history = self._history[step.model, slot]
            for layer, window in enumerate(self._layouts[step.model].windows):
                first = 0 if window is None else max(0, start - window + 1)
                for position in range(first, len(history)):
                    self._check(step.model, slot, layer, position, history)

    def _behind_drafts(self, step: Step) -> list[int]:
        """What a device samples in the rows of drafts; which of a slot's rows it remembers is its own affair."""
        tokens = [
            self._sample(step.model, slot, position + 1, _allowed(step.controls, number))
            for number, (slot, position, _) in enumerate(_drafts(step), start=len(step.slots))
        ]
        self._sampled |= {(step.model, slot): NOBODYS for slot, _, _ in _drafts(step)}
        return tokens

    def _sample(self, model: str, slot: int, end: int, allowed: Bools) -> int:
        """The next token behind so many, or the first behind it that is allowed."""
        token = next_token(model, self._history[model, slot][:end])
        tokens = (np.arange(VOCAB) + token) % VOCAB
        self._sampled[model, slot] = next(iter(tokens[allowed[tokens]].tolist()), NOTHING_LEFT)
        return self._sampled[model, slot]

    def _write(self, model: str, slot: int, position: int, history: list[int]) -> None:
        layout = self._layouts[model]
        column, offset = divmod(position, layout.tokens_per_block)
        for layer in range(layout.layers):
            for head, block in enumerate(self._tables[model, slot, column, layer].tolist()):
                self._cells[block, offset] = (model, layer, head, tuple(history[: position + 1]))

    def _check(self, model: str, slot: int, layer: int, position: int, history: list[int]) -> None:
        column, offset = divmod(position, self._layouts[model].tokens_per_block)
        for head, block in enumerate(self._tables[model, slot, column, layer].tolist()):
            mark = (model, layer, head, tuple(history[: position + 1]))
            assert self._cells[block, offset] == mark, (
                f"block {block} of {model} slot {slot} holds {self._cells[block, offset]}, not {mark}"
            )


def _allowed(controls: StepControls | None, row: int) -> Bools:
    """[VOCAB]; of logits processors those that forbid, and no other, change what is sampled."""
    allowed = np.ones(VOCAB, bool)
    if controls is not None:
        if row in controls.masks:
            bits = np.unpackbits(controls.masks[row].view(np.uint8), bitorder="little")[:VOCAB]
            allowed[:] = np.pad(bits, (0, VOCAB - len(bits)))
        edits = controls.edits[controls.edits["row"] == row]
        allowed[edits["token"][edits["add"] == -np.inf]] = False
    return allowed


def _logprobs(tokens: np.ndarray) -> TopLogprobs:
    top = np.tile(np.arange(MOST_LOGPROBS), (len(tokens), 1))
    return TopLogprobs(-tokens / 8, top, -top / 8)


def _drafts(step: Step) -> list[tuple[int, int, int]]:
    """Slot, position and token of each draft."""
    own = step.drafts
    if own is None:
        return []
    return list(zip(step.slots[own.rows].tolist(), (step.starts[own.rows] + own.places).tolist(), own.tokens.tolist(), strict=True))


def _check_rows(step: Step) -> None:
    """What a step promises of its rows: decodes first, one token each, and no slot twice."""
    chunks = step.tokens[step.decodes :]
    assert (step.counts[: step.decodes] == 1).all(), "a row among the decodes is none"
    assert step.drafts is None or (step.drafts.rows < step.decodes).all(), "a chunk has drafts"
    assert (chunks != SAMPLED).all(), "a chunk's token is not known yet"
    assert len(set(step.slots.tolist())) == len(step.slots), "a slot has two rows in a step"
