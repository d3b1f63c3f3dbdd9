"""Sampling parameters of a client, as the engine takes them."""

from collections.abc import Mapping, Sequence

from muxjax.server.catalog import ServedModel
from muxjax.server.openai.fields import MOST_BAD_WORD_CHARACTERS, MOST_BAD_WORDS, Fields, is_token, show, strings, token_ids
from muxjax.server.sampling_defaults import MOST_BIAS, MOST_REPETITION_PENALTY, MOST_TEMPERATURE, MOST_TOP_K, NO_TOP_K
from muxjax.types import MOST_LOGPROBS, Grammar, Sampling

MOST_BAD_WORD_TOKENS = 2**14
"""Of all bad words of a request together, in both spellings."""
MOST_BIASES = 1024
_GREEDY_BELOW = 1e-5


def read_sampling(
    fields: Fields, model: ServedModel, *, grammar: Grammar | None, logprobs: int | None, prompt_logprobs: int | None
) -> Sampling:
    """Sampling of a request, but for the seed and the numbers of tokens, which are of one prompt or sample.

    Raises:
      RequestError: a value outside its range.
    """
    defaults, vocab = model.defaults, model.spec.vocab
    temperature = fields.number("temperature", defaults.temperature, 0, max(MOST_TEMPERATURE, defaults.temperature))
    ends = () if fields.flag("ignore_eos") else model.spec.eos_ids
    words = _bad_words(fields, model) if fields.get("bad_words") is not None else defaults.bad_words
    return Sampling(
        temperature=0.0 if temperature < _GREEDY_BELOW else temperature,
        top_k=max(fields.integer("top_k", defaults.top_k, NO_TOP_K, MOST_TOP_K), 0),
        top_p=fields.number("top_p", defaults.top_p, 0, 1),
        min_p=fields.number("min_p", defaults.min_p, 0, 1),
        stop_token_ids=frozenset((*token_ids(fields, "stop_token_ids", vocab), *ends)),
        presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
        repetition_penalty=fields.number("repetition_penalty", defaults.repetition_penalty, 0, MOST_REPETITION_PENALTY),
        logit_bias=_logit_bias(fields, vocab) if fields.get("logit_bias") is not None else defaults.logit_bias,
        allowed_token_ids=_allowed(fields, vocab),
        bad_words=(*words, *((token,) for token in defaults.suppressed)),
        grammar=grammar,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )


def _spellings(word: str) -> tuple[str, ...]:
    bare = word.lstrip()
    return (bare, " " + bare) if bare else (word,)


def read_logprobs(fields: Fields, *, chat: bool) -> int | None:
    """Number of the most likely tokens that are told beside each; None tells nothing."""
    if not chat:
        return None if fields.get("logprobs") is False else fields.integer("logprobs", None, 0, MOST_LOGPROBS)
    on, top = fields.flag("logprobs"), fields.integer("top_logprobs", None, 0, MOST_LOGPROBS)
    if top and not on:
        raise fields.error("top_logprobs", "needs logprobs to be true")
    return (top or 0) if on else None


def _logit_bias(fields: Fields, vocab: int) -> tuple[tuple[int, float], ...]:
    bias = fields.object("logit_bias")
    entries: Mapping[str, object] = bias.raw if bias else {}
    if len(entries) > MOST_BIASES:
        raise fields.error("logit_bias", f"must have at most {MOST_BIASES} tokens, got {len(entries)}", code="invalid_value")
    return tuple((_token(fields, name, vocab), _bias(fields, value)) for name, value in entries.items())


def _token(fields: Fields, name: str, vocab: int) -> int:
    token = int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else None
    if token is None or not is_token(token, vocab):
        raise fields.error("logit_bias", f"must have token ids from 0 to {vocab - 1}, got {show(name)}", code="invalid_value")
    return token


def _bias(fields: Fields, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST_BIAS <= value <= MOST_BIAS:
        raise fields.error("logit_bias", f"must be -{MOST_BIAS} to {MOST_BIAS} for each token, got {show(value)}", code="invalid_value")
    return float(value)


def _allowed(fields: Fields, vocab: int) -> frozenset[int] | None:
    """None for all."""
    if fields.get("allowed_token_ids") is None:
        return None
    tokens = frozenset(token_ids(fields, "allowed_token_ids", vocab))
    if not tokens:
        raise fields.error("allowed_token_ids", "must have a token: an empty list allows none", code="invalid_value")
    return tokens


def _bad_words(fields: Fields, model: ServedModel) -> tuple[tuple[int, ...], ...]:
    """Each word as it begins a text, and as it follows a space; white space as it is."""
    words = strings(fields, "bad_words", MOST_BAD_WORDS, MOST_BAD_WORD_CHARACTERS)
    spellings: Sequence[tuple[int, ...]] = [model.tokenizer.encode(text, special=False) for word in words for text in _spellings(word)]
    count = sum(map(len, spellings))
    if count > MOST_BAD_WORD_TOKENS:
        raise fields.error("bad_words", f"must have at most {MOST_BAD_WORD_TOKENS} tokens in all, got {count}", code="invalid_value")
    return tuple(dict.fromkeys(tokens for tokens in spellings if tokens))
