"""Logits processors, as the host keeps them: penalties, bans, allowed tokens, grammars and log-probabilities of each request.

On the device `post_step` carries out what a step's rows want, as `StepControls` says it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from muxjax.engine.bad_words import BadWords
from muxjax.engine.executor import Done, Step
from muxjax.engine.first_token import check_first_token
from muxjax.engine.grammar import Grammars, Matcher
from muxjax.engine.model.pooling import PooledHidden
from muxjax.engine.model.slot_text import SlotText
from muxjax.engine.step_controls import EDIT, NEUTRAL, NO_ROW, Recount, StepControls, TopLogprobs
from muxjax.errors import RequestError
from muxjax.types import Bits, Finish, Floats, Ints, Logprobs, Output, Request, Sampling

_FEW_BANS = 16
"""Bans of a row that are told one by one; more of them are a mask, which costs the device the same for any number."""

_LEAST_REPETITION, _MOST_REPETITION = 1e-6, 1e6
"""Repetition penalties beyond change nothing more, and would make infinite numbers of logits."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class RowShaping(NamedTuple):
    """What is done to the logits of a row: additions as EDIT, and a mask as in `StepControls.masks`, None where all tokens are allowed."""

    edits: np.ndarray
    mask: Bits | None


_UNSHAPED = RowShaping(np.array([], EDIT), None)


class TokenControls:
    """Logits processors and log-probabilities of one request, over its whole way.

    Attributes:
      tied: each of its steps must know the token of the one before, so that none is launched ahead.
      penalties: in the order of NEUTRAL, or None.
      logprobs: as of `Sampling`.
      pooled: the hidden state of its prompt as far as it is there; None where it is not wanted.
      broken: one of them has failed, by a defect of ours: the sequence ends with its next token.
    """

    def __init__(self, request: Request, matcher: Matcher | None, vocab: int):
        sampling = request.sampling
        repetition = min(max(sampling.repetition_penalty, _LEAST_REPETITION), _MOST_REPETITION)
        penalties = sampling.presence_penalty, sampling.frequency_penalty, repetition
        self._ends = np.fromiter(sampling.stop_token_ids if sampling.min_tokens else (), np.int32)
        self._bad_words, self._vocab = BadWords.of(sampling.bad_words), vocab
        self.tied = matcher is not None or self._bad_words.tied
        self.penalties = None if penalties == NEUTRAL else penalties
        self.logprobs = sampling.logprobs
        self.pooled = None if sampling.pooling is None else PooledHidden(sampling.pooling, len(request.prompt))
        self.broken, self._id = False, request.id
        self._sampling, self._matcher, self._prompt = sampling, matcher, np.array(request.prompt, np.int32)
        allowed, bans = None if sampling.allowed_token_ids is None else _bits(sampling.allowed_token_ids), self._bad_words.always
        few = len(bans) <= _FEW_BANS
        self._always = np.concatenate([_edits(sampling.logit_bias), _banned(bans if few else bans[:0])])
        self._allowed = allowed if few else self._without(allowed, bans)
        self._prompt_logprobs: dict[int, Logprobs] | None = None if sampling.prompt_logprobs is None else {}  # by position before it

    @classmethod
    def of(cls, request: Request, grammars: Grammars | None, vocab: int) -> "TokenControls | None":
        """None for a request that wants nothing."""
        grammar = request.sampling.grammar
        matcher = grammars.matcher(grammar) if grammars and grammar else None
        if matcher is not None:
            for token in request.begun:
                matcher.take(token)
        controls = cls(request, matcher, vocab)
        return controls if controls._any else None

    @property
    def _any(self) -> bool:
        shapes = self.tied or self.penalties or len(self._always) or self._allowed is not None or self._sampling.min_tokens
        return bool(shapes) or self.logprobs is not None or self._prompt_logprobs is not None or self.pooled is not None

    @property
    def wants_prompt_logprobs(self) -> bool:
        """The prompt's log-probabilities are wanted, and have not been put out."""
        return self._prompt_logprobs is not None

    @property
    def wants_whole_prompt(self) -> bool:
        """All of the prompt is to be computed, whatever of it is in the cache."""
        return self.wants_prompt_logprobs or (self.pooled is not None and self.pooled.wants_all)

    @property
    def last_finish(self) -> Finish:
        """Finish of a sequence that ends without a token, for its controls allow none: a form that is not complete was cut off."""
        if self.broken:
            return Finish.ERROR
        return Finish.STOP if self._matcher is None or self._matcher.is_complete else Finish.LENGTH

    def shaping(self, row: int, text: Ints, ends: int) -> RowShaping:
        """Of the row whose token comes at position `ends`; `text` is known up to there of a tied one."""
        return self._contained(lambda: self._shaping(row, text, ends, self._matcher), _UNSHAPED)

    def shapings_ahead(self, rows: np.ndarray, text: Ints, ends: int, drafts: Ints) -> list[RowShaping]:
        """Of the rows of drafts behind a text that is known up to `ends`: each as if it and those before it had been taken."""
        return self._contained(lambda: self._shapings_ahead(rows, text, ends, drafts), [_UNSHAPED] * len(rows))

    def _shapings_ahead(self, rows: np.ndarray, text: Ints, ends: int, drafts: Ints) -> list[RowShaping]:
        ahead = None if self._matcher is None else self._matcher.copy()
        shapings: list[RowShaping] = []
        for place, (row, token) in enumerate(zip(rows.tolist(), drafts.tolist(), strict=True), start=1):
            if ahead is not None:
                ahead.take(token)  # if it may not come, neither it nor what follows it is right
            shapings.append(self._shaping(row, np.concatenate([text, drafts[:place]]), ends + place, ahead))
        return shapings

    def _contained(self, compute: Callable[[], T], otherwise: T) -> T:
        """The result, or `otherwise` where it fails and from then on: the sequence ends, and the others of the step go on."""
        if not self.broken:
            try:
                return compute()
            except Exception:  # of whatever kind: this is where one request's troubles are kept from the others
                self.broken = True
                _log.exception("the controls of request %s have failed", self._id)
        return otherwise

    def _shaping(self, row: int, text: Ints, ends: int, matcher: Matcher | None) -> RowShaping:
        bans, mask = self._bans(text, ends), self._mask(matcher)
        if len(bans) > _FEW_BANS:
            bans, mask = bans[:0], self._without(mask, bans)
        edits = np.concatenate([self._always, _banned(bans)])
        edits["row"] = row
        return RowShaping(edits, mask)

    def _bans(self, text: Ints, ends: int) -> Ints:
        """Tokens forbidden at this position alone. The grammar alone says when an answer with one may end."""
        bans = self._bad_words.completing(text)
        if self._matcher is None and ends - len(self._prompt) < self._sampling.min_tokens:
            return np.concatenate([bans, self._ends])
        return bans

    def _without(self, mask: Bits | None, bans: Ints) -> Bits:
        """The mask, which may be None for all tokens, less those."""
        allowed = np.full(-(-self._vocab // 32), 2**32 - 1, np.uint32) if mask is None else mask.copy()
        forbidden = _bits(bans)[: len(allowed)]
        allowed[: len(forbidden)] &= ~forbidden
        return allowed

    def _mask(self, matcher: Matcher | None) -> Bits | None:
        """Tokens that grammar and request allow next; None where all are."""
        if matcher is None:
            return self._allowed
        bits = matcher.bits()
        if self._allowed is None:
            return bits
        return bits & np.pad(self._allowed, (0, max(0, len(bits) - len(self._allowed))))[: len(bits)]

    def recount(self, slot: int, text: Ints) -> Recount:
        """Count of the tokens known when it begins to decode."""
        prompt = self._prompt
        return self._contained(lambda: Recount(slot, prompt, text[len(prompt) :]), Recount(slot, prompt[:0], prompt[:0]))

    def follow(self, start: int, count: int) -> Ints:
        """[count] the prompt's tokens behind those from `start` on; 0 behind its end."""
        behind = self._prompt[start + 1 : start + count + 1]
        return np.pad(behind, (0, count - len(behind)))

    def add_prompt_logprobs(self, logprobs: TopLogprobs, start: int) -> None:
        """Takes in those of the prompt's tokens behind a chunk's, which began at that position."""
        self._contained(lambda: self._add_prompt_logprobs(logprobs, start), None)

    def _add_prompt_logprobs(self, logprobs: TopLogprobs, start: int) -> None:
        assert self._prompt_logprobs is not None
        most = self._sampling.prompt_logprobs or 0
        for row, position in enumerate(range(start, min(start + len(logprobs.logprob), len(self._prompt) - 1))):
            self._prompt_logprobs[position] = logprobs.of(row, int(self._prompt[position + 1]), most)

    def take(self, output: Output, logprobs: TopLogprobs | None, row: int) -> Output:
        """Takes in the token of that row of a step: its output with what log-probabilities are wanted, the prompt's once.

        One that has failed has no token.
        """
        output = self._contained(lambda: self._take(output, logprobs, row), output)
        return output._replace(token=None) if self.broken else output

    def _take(self, output: Output, logprobs: TopLogprobs | None, row: int) -> Output:
        token, most = output.token, self._sampling.logprobs
        if self._matcher is not None and token is not None:
            self._matcher.take(token)
        prompt, self._prompt_logprobs = self._prompt_logprobs, None
        return output._replace(
            logprobs=None if logprobs is None or most is None or token is None else logprobs.of(row, token, most),
            prompt_logprobs=None if prompt is None else tuple(prompt[position] for position in sorted(prompt)),
            hidden=None if self.pooled is None else self.pooled.take(),
        )


def check_controls(sampling: Sampling, vocab: int, grammars: Grammars | None) -> None:
    """Raises RequestError for a token that is none of the model's, a grammar that does not compile, rules that leave no first token."""
    tokens_by_field = {
        "logit_bias": [token for token, _ in sampling.logit_bias],
        "allowed_token_ids": sampling.allowed_token_ids or (),
        "bad_words": [token for words in sampling.bad_words for token in words],
        "stop_token_ids": sampling.stop_token_ids,
    }
    for field, tokens in tokens_by_field.items():
        for token in tokens:
            if not 0 <= token < vocab:
                raise RequestError(f"{field} must name tokens from 0 to {vocab - 1}, got {token}", param=field)
    if sampling.grammar is not None and grammars is None:
        raise RequestError("this model has no tokenizer to write grammars for", param="structured_outputs")
    check_first_token(sampling, vocab, grammars.matcher(sampling.grammar) if grammars and sampling.grammar else None)


def step_controls(controls: Mapping[int, TokenControls], text: SlotText, step: Step) -> StepControls | None:
    """Controls of a step's rows, by the controls of slots; None where none wants anything."""
    rows = [(row, slot, controls[slot]) for row, slot in enumerate(step.slots.tolist()) if slot in controls]
    if not rows:
        return None
    ends = step.starts + step.counts
    last = [(row, slot, own) for row, slot, own in rows if ends[row] >= text.known[slot]]  # they sample a token of use
    penalized = [(row, slot, own) for row, slot, own in last if own.penalties]
    shaped = {row: own.shaping(row, text.view(slot), int(ends[row])) for row, slot, own in last}
    shaped |= _shaped_drafts(last, text, step)
    return StepControls(
        penalties=_penalties({row: own for row, _, own in penalized}, len(step.slots)),
        recounts=tuple(own.recount(slot, text.view(slot)) for row, slot, own in penalized if row >= step.decodes),
        edits=np.concatenate([_edits([]), *(shaping.edits for shaping in shaped.values())]),
        masks={row: shaping.mask for row, shaping in shaped.items() if shaping.mask is not None},
        logprobs=any(own.logprobs is not None for _, _, own in last),
        follow=_follow({row: own for row, _, own in rows if row >= step.decodes and own.wants_prompt_logprobs}, step),
        pool=_pool({row: own.pooled for row, _, own in rows if row >= step.decodes and own.pooled is not None}, step),
    )


def _shaped_drafts(rows: Iterable[tuple[int, int, TokenControls]], text: SlotText, step: Step) -> dict[int, RowShaping]:
    """Of the drafts that follow those rows, by their numbers: row, slot and controls each."""
    drafts = step.drafts
    if drafts is None:
        return {}
    shaped: dict[int, RowShaping] = {}
    for row, slot, own in rows:
        places = np.flatnonzero(drafts.rows == row)
        numbers, ends = len(step.slots) + places, int(step.starts[row] + step.counts[row])
        shaped |= zip(numbers.tolist(), own.shapings_ahead(numbers, text.view(slot), ends, drafts.tokens[places]), strict=True)
    return shaped


def take_prompts(controls: Mapping[int, TokenControls], step: Step, done: Done) -> None:
    """Takes in what a step says of its prompts: log-probabilities and hidden states."""
    if done.prompt_logprobs is not None:
        _add_prompt_logprobs(controls, step, done.prompt_logprobs)
    if done.hidden is not None:
        _add_hidden(controls, step, done.hidden)


def take_outputs(
    controls: Mapping[int, TokenControls], logprobs: TopLogprobs | None, slots: Ints, places: np.ndarray, outputs: Sequence[Output]
) -> list[Output]:
    """Takes in tokens of those slots: grammars go on, and the outputs have the log-probabilities that are wanted.

    Args:
      places: of the tokens among those that the step has sampled.
    """
    by_slot = zip(slots.tolist(), places.tolist(), outputs, strict=True)
    return [controls[slot].take(output, logprobs, place) if slot in controls else output for slot, place, output in by_slot]


def _add_prompt_logprobs(controls: Mapping[int, TokenControls], step: Step, logprobs: TopLogprobs) -> None:
    """Takes in those of the tokens behind the chunks', [T]."""
    for row in range(step.decodes, len(step.slots)):
        own = controls.get(int(step.slots[row]))
        if own is not None and own.wants_prompt_logprobs:
            tokens = _chunk(step, row)
            own.add_prompt_logprobs(
                TopLogprobs(logprobs.logprob[tokens], logprobs.top_token[tokens], logprobs.top_logprob[tokens]), int(step.starts[row])
            )


def _add_hidden(controls: Mapping[int, TokenControls], step: Step, hidden: Floats) -> None:
    """Takes in the sums of the chunks' hidden states, [B, M]."""
    for row in range(step.decodes, len(step.slots)):
        own = controls.get(int(step.slots[row]))
        if own is not None and own.pooled is not None:
            own.pooled.add(hidden[row], int(step.starts[row]))


def _edits(additions: Sequence[tuple[int, float]]) -> np.ndarray:
    """EDIT of what is added to tokens of row 0."""
    return np.array([(0, token, add) for token, add in additions], EDIT)


def _banned(tokens: Ints) -> np.ndarray:
    """EDIT that forbids tokens of row 0."""
    edits = np.zeros(len(tokens), EDIT)
    edits["token"], edits["add"] = tokens, -np.inf
    return edits


def _penalties(penalized: Mapping[int, TokenControls], rows: int) -> Floats | None:
    if not penalized:
        return None
    penalties = np.tile(np.array(NEUTRAL, np.float32), (rows, 1))
    for row, own in penalized.items():
        penalties[row] = own.penalties
    return penalties


def _follow(controls: Mapping[int, TokenControls], step: Step) -> Ints | None:
    if not controls:
        return None
    follow = np.zeros(len(step.tokens) - step.decodes, np.int32)
    for row, own in controls.items():
        follow[_chunk(step, row)] = own.follow(int(step.starts[row]), int(step.counts[row]))
    return follow


def _pool(pooled: Mapping[int, PooledHidden], step: Step) -> Ints | None:
    if not pooled:
        return None
    pool = np.full(len(step.tokens) - step.decodes, NO_ROW, np.int32)
    for row, own in pooled.items():
        pool[_chunk(step, row)] = np.where(own.wanted(int(step.starts[row]), int(step.counts[row])), row, NO_ROW)
    return pool


def _chunk(step: Step, row: int) -> slice:
    """Where a chunk's tokens are among those of all chunks."""
    end = int(step.counts[step.decodes : row + 1].sum())
    return slice(end - int(step.counts[row]), end)


def _bits(tokens: Iterable[int]) -> Bits:
    """Mask of those tokens, as in `StepControls.masks`."""
    places = np.fromiter(tokens, np.int64)
    bits = np.zeros(32 * (int(places.max(initial=0)) // 32 + 1), np.uint8)
    bits[places] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)
