"""Requests as a checkpoint prefers them, by its generation_config.json."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields, shorten
from muxjax.specs.generation_fields import NEUTRAL
from muxjax.specs.known_fields import NAMES, is_one_of

MOST_TEMPERATURE = 2
"""Of a request; a checkpoint may prefer a higher one, which then its requests may name too."""
MOST_TOP_K = 2**31 - 1
MOST_REPETITION_PENALTY = 1e6
MOST_BIAS = 100
NO_TOP_K = -1
"""All tokens, as 0."""
_MOST_PREFERRED_TEMPERATURE = 1000
_MOST_TOKENS = 2**31 - 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """What holds for a request that does not say; see `types.Sampling`.

    Args:
      max_tokens: of a chat; None for as many as there is room for.
      min_tokens, min_length: the latter counts the prompt too, and is not read where the former is given.
      stop: texts that end an answer.
      suppressed: tokens that no answer has, whatever its request says.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None
    min_tokens: int | None = None
    min_length: int = 0
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    suppressed: tuple[int, ...] = ()

    def least_tokens(self, prompt_tokens: int) -> int:
        """min_tokens of an answer to a prompt of that length."""
        return max(self.min_length - prompt_tokens, 0) if self.min_tokens is None else self.min_tokens

    def within(self, spec: ModelSpec) -> "SamplingDefaults":
        """Without tokens that the model does not have, and an end of sequence is no bad word, as in transformers."""

        def known(token: int) -> bool:
            return 0 <= token < spec.vocab

        ends = [(token,) for token in spec.eos_ids]
        return replace(
            self,
            logit_bias=tuple((token, bias) for token, bias in self.logit_bias if known(token)),
            bad_words=tuple(word for word in self.bad_words if all(map(known, word)) and word not in ends),
            suppressed=tuple(filter(known, self.suppressed)),
        )


def load_defaults(folder: Path, model: str) -> SamplingDefaults:
    """The defaults of generation_config.json, or of config.json where there is none, as in transformers; OpenAI's where a value is null or
    missing. One warning names the fields that change answers in transformers, and not here.

    Args:
      model: its name.
    Raises:
      ConfigError: a value that is honoured is not what it must be.
    """
    own = folder / "generation_config.json"
    path = own if own.exists() else folder / "config.json"
    fields = Fields.load(path) if path.exists() else Fields(where=str(path), values={})
    defaults = _defaults(fields)
    names = [name for name in fields.never_asked() if _changes_answers(fields, name, alone=path == own)]
    if names:
        said = ", ".join(f"{name} = {shorten(fields.values[name])}" for name in names)
        _log.warning("model %s: %s: fields that may change answers are not honoured: %s", model, path, said)
    return defaults


def _defaults(fields: Fields) -> SamplingDefaults:
    temperature = _number(fields, "temperature", 1.0, 0, _MOST_PREFERRED_TEMPERATURE)
    greedy = fields.get("do_sample") is not None and not fields.flag("do_sample")
    return SamplingDefaults(
        temperature=0.0 if greedy else temperature,
        top_p=_number(fields, "top_p", 1.0, 0, 1) or 1.0,
        top_k=max(int(_number(fields, "top_k", 0, NO_TOP_K, MOST_TOP_K)), 0),
        min_p=_number(fields, "min_p", 0.0, 0, 1),
        repetition_penalty=_number(fields, "repetition_penalty", 1.0, 0, MOST_REPETITION_PENALTY) or 1.0,
        max_tokens=_count(fields, "max_new_tokens") or None,
        min_tokens=_count(fields, "min_new_tokens"),
        min_length=_count(fields, "min_length") or 0,
        stop=_stop(fields),
        logit_bias=_bias(fields),
        bad_words=_bad_words(fields),
        suppressed=_tokens(fields, "suppress_tokens", fields.get("suppress_tokens", [])),
    )


def _changes_answers(fields: Fields, name: str, *, alone: bool) -> bool:
    """A field that is not known may, where the file holds nothing but fields of generation."""
    if name in NEUTRAL:
        return not is_one_of(fields.values[name], NEUTRAL[name])
    return name == "sequence_bias" or (alone and name not in NAMES and name != "eos_token_id")


def _number(fields: Fields, name: str, default: float, low: float, high: float) -> float:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise fields.wrong(name, value, f"a number from {low} to {high}")
    return value


def _count(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS):
        raise fields.wrong(name, value, f"a whole number from 0 to {_MOST_TOKENS}")
    return value


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.get("stop_strings", [])
    texts: Sequence[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text for text in texts):
        raise fields.wrong("stop_strings", value, "a text or a list of them, none empty")
    return tuple(texts)


def _bad_words(fields: Fields) -> tuple[tuple[int, ...], ...]:
    value = fields.get("bad_words_ids", [])
    if not isinstance(value, list) or not all(value):
        raise fields.wrong("bad_words_ids", value, "a list of lists of token ids, none empty")
    return tuple(_tokens(fields, "bad_words_ids", word) for word in value)


def _tokens(fields: Fields, name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(token, int) and not isinstance(token, bool) for token in value):
        raise fields.wrong(name, value, "a list of token ids")
    return tuple(value)


def _bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    """Those of `sequence_bias` if each is of one token, and one that a request may ask; otherwise none, and the field counts as unread."""
    match fields.values.get("sequence_bias"):
        case list(entries) if all(_is_bias(entry) for entry in entries):
            fields.get("sequence_bias")
            return tuple((token, float(bias)) for (token,), bias in entries)
    return ()


def _is_bias(entry: object) -> bool:
    match entry:
        case [[int()], int() | float() as bias]:
            return -MOST_BIAS <= bias <= MOST_BIAS
    return False
