"""What requests ask of their tokens beyond how they are drawn, over their whole way."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from muxjax.engine.executor import Done, Step
from muxjax.engine.grammar import Grammars, Matcher
from muxjax.engine.slot_text import SlotText
from muxjax.engine.step_controls import EDIT, NEUTRAL, Recount, StepControls, TopLogprobs
from muxjax.errors import RequestError
from muxjax.types import Logprobs, Output, Request, Sampling


class TokenControls:
    """One request's, over its whole way.

    Attributes:
      tied: each of its steps must know the token of the one before, so that none is launched ahead.
      penalties: in the order of NEUTRAL, or None.
      logprobs: as of `Sampling`.
    """

    def __init__(self, request: Request, matcher: Matcher | None):
        sampling = request.sampling
        penalties = sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty
        self.tied = matcher is not None or any(len(words) > 1 for words in sampling.bad_words)
        self.penalties = None if penalties == NEUTRAL else penalties
        self.logprobs = sampling.logprobs
        self._sampling, self._matcher, self._prompt = sampling, matcher, np.array(request.prompt, np.int32)
        banned = [(words[0], -np.inf) for words in sampling.bad_words if len(words) == 1]
        self._always = _edits([*sampling.logit_bias, *banned])
        self._endings = [words for words in sampling.bad_words if len(words) > 1]
        self._allowed = None if sampling.allowed_token_ids is None else _bits(sampling.allowed_token_ids)
        self._scores: dict[int, Logprobs] | None = None if sampling.prompt_logprobs is None else {}  # by position of the token before

    @classmethod
    def of(cls, request: Request, grammars: Grammars | None) -> "TokenControls | None":
        """None for a request that wants nothing."""
        grammar = request.sampling.grammar
        matcher = grammars.matcher(grammar) if grammars and grammar else None
        controls = cls(request, matcher)
        return controls if controls._any else None

    @property
    def _any(self) -> bool:
        shapes = self.tied or self.penalties or len(self._always) or self._allowed is not None or self._sampling.min_tokens
        return bool(shapes) or self.logprobs is not None or self._scores is not None

    @property
    def scored(self) -> bool:
        """The prompt's log-probabilities are asked for and have not been told."""
        return self._scores is not None

    def edits(self, row: int, text: np.ndarray, ends: int) -> np.ndarray:
        """EDIT of the row whose token comes at position `ends`; `text` is known up to there where the wishes are tied."""
        edits = np.concatenate([self._always, _edits(list(self._bans(text, ends)))])
        edits["row"] = row
        return edits

    def _bans(self, text: np.ndarray, ends: int) -> Iterator[tuple[int, float]]:
        """Of this position alone. The grammar alone says when an answer with one may end."""
        if self._matcher is None and ends - len(self._prompt) < self._sampling.min_tokens:
            yield from ((token, -np.inf) for token in self._sampling.stop_token_ids)
        for *begin, last in self._endings:
            if len(text) >= len(begin) and text[len(text) - len(begin) :].tolist() == begin:
                yield last, -np.inf

    def mask(self) -> np.ndarray | None:
        """Tokens allowed next, as in `StepControls.masks`; None where all are."""
        if self._matcher is None:
            return self._allowed
        bits = self._matcher.bits()
        if self._allowed is None:
            return bits
        return np.bitwise_and(*(np.pad(each, (0, max(0, len(bits) - len(each))))[: len(bits)] for each in (bits, self._allowed)))

    def recount(self, slot: int, text: np.ndarray) -> Recount:
        """Of the tokens known when it begins to decode."""
        return Recount(slot, self._prompt, text[len(self._prompt) :])

    def follow(self, start: int, count: int) -> np.ndarray:
        """[count] the prompt's tokens behind those from `start` on; 0 behind its end."""
        behind = self._prompt[start + 1 : start + count + 1]
        return np.pad(behind, (0, count - len(behind)))

    def score(self, told: TopLogprobs, start: int) -> None:
        """What a chunk that began at that position says of the prompt's tokens behind it."""
        assert self._scores is not None
        most = self._sampling.prompt_logprobs or 0
        for row, position in enumerate(range(start, min(start + len(told.logprob), len(self._prompt) - 1))):
            self._scores[position] = told.of(row, int(self._prompt[position + 1]), most)

    def answer(self, output: Output, told: TopLogprobs | None, row: int) -> Output:
        """The output with all that was asked of its token, which came of that row of a step; the prompt's scores are told once."""
        assert output.token is not None
        if self._matcher is not None:
            self._matcher.take(output.token)
        most, scores, self._scores = self._sampling.logprobs, self._scores, None
        return output._replace(
            logprobs=None if told is None or most is None else told.of(row, output.token, most),
            prompt_logprobs=None if scores is None else tuple(scores[position] for position in sorted(scores)),
        )


def check_controls(sampling: Sampling, vocab: int, grammars: Grammars | None) -> None:
    """Raises RequestError for a token that is none of the model's, and for a grammar that does not compile."""
    named = {
        "logit_bias": [token for token, _ in sampling.logit_bias],
        "allowed_token_ids": sampling.allowed_token_ids or (),
        "bad_words": [token for words in sampling.bad_words for token in words],
        "stop_token_ids": sampling.stop_token_ids,
    }
    for field, tokens in named.items():
        for token in tokens:
            if not 0 <= token < vocab:
                raise RequestError(f"{field} must name tokens from 0 to {vocab - 1}, got {token}", param=field)
    if sampling.grammar is not None:
        if grammars is None:
            raise RequestError("this model has no tokenizer to write grammars for", param="structured_outputs")
        grammars.matcher(sampling.grammar)


def ask(controls: Mapping[int, TokenControls], text: SlotText, step: Step) -> StepControls | None:
    """What the rows of a step ask, by the wishes of slots; None where none does."""
    wishing = [(row, slot, controls[slot]) for row, slot in enumerate(step.slots.tolist()) if slot in controls]
    if not wishing:
        return None
    ends = step.starts + step.counts
    last = [(row, slot, wish) for row, slot, wish in wishing if ends[row] >= text.known[slot]]  # they sample a token of use
    penalized = [(row, slot, wish) for row, slot, wish in last if wish.penalties]
    edits = [wish.edits(row, text.view(slot), int(ends[row])) for row, slot, wish in last]
    masks = {row: wish.mask() for row, _, wish in last}
    return StepControls(
        penalties=_penalties({row: wish for row, _, wish in penalized}, len(step.slots)),
        recounts=tuple(wish.recount(slot, text.view(slot)) for row, slot, wish in penalized if row >= step.decodes),
        edits=np.concatenate([_edits([]), *edits]),
        masks={row: mask for row, mask in masks.items() if mask is not None},
        logprobs=any(wish.logprobs is not None for _, _, wish in last),
        follow=_follow({row: wish for row, _, wish in wishing if row >= step.decodes and wish.scored}, step),
    )


def answers(controls: Mapping[int, TokenControls], step: Step, done: Done, rows: np.ndarray, outputs: Sequence[Output]) -> list[Output]:
    """The outputs of those rows of a step with all that was asked of their tokens, and of their prompts."""
    if done.scored is not None:
        _keep_scores(controls, step, done.scored)
    by_row = [(controls.get(int(step.slots[row])), int(row), output) for row, output in zip(rows, outputs, strict=True)]
    return [wish.answer(output, done.told, row) if wish else output for wish, row, output in by_row]


def _keep_scores(controls: Mapping[int, TokenControls], step: Step, scored: TopLogprobs) -> None:
    """Takes in what a step says of prompts, [T] for the tokens of its chunks."""
    for row in range(step.decodes, len(step.slots)):
        wish = controls.get(int(step.slots[row]))
        if wish is not None and wish.scored:
            wish.score(TopLogprobs(*(each[_own(step, row)] for each in scored)), int(step.starts[row]))


def _edits(added: list[tuple[int, float]]) -> np.ndarray:
    """EDIT of what is added to tokens of row 0."""
    return np.array([(0, token, add) for token, add in added], EDIT)


def _penalties(penalized: Mapping[int, TokenControls], rows: int) -> np.ndarray | None:
    if not penalized:
        return None
    penalties = np.tile(np.array(NEUTRAL, np.float32), (rows, 1))
    for row, wish in penalized.items():
        penalties[row] = wish.penalties
    return penalties


def _follow(scored: Mapping[int, TokenControls], step: Step) -> np.ndarray | None:
    if not scored:
        return None
    follow = np.zeros(len(step.tokens) - step.decodes, np.int32)
    for row, wish in scored.items():
        follow[_own(step, row)] = wish.follow(int(step.starts[row]), int(step.counts[row]))
    return follow


def _own(step: Step, row: int) -> slice:
    """Where a chunk's tokens are among those of all chunks."""
    end = int(step.counts[step.decodes : row + 1].sum())
    return slice(end - int(step.counts[row]), end)


def _bits(tokens: frozenset[int]) -> np.ndarray:
    """As in `StepControls.masks`."""
    bits = np.zeros(32 * (max(tokens, default=0) // 32 + 1), np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)
