"""End-of-sequence tokens of a checkpoint, from every file that names one."""

import logging
from pathlib import Path

from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family
from muxjax.specs.tokens import tokenizer_eos

_log = logging.getLogger(__name__)


def read_eos_ids(config: Fields, folder: Path, family: Family, *, vocab: int) -> tuple[int, ...]:
    """Those of config.json and of generation_config.json, which is where chat models name theirs, and the tokenizer's own.

    The family's default holds where none of them has a word of it: a vocabulary that another token ends has its own, which
    its tokenizer names. A null is a word: nothing ends an answer then.

    An id that the model has no row for can never come, so it is left out with a warning; a negative one names no token.

    Raises:
      ConfigError: a value is no token id or list of them, or a tokenizer's file is not what it must be.
    """
    generation = folder / "generation_config.json"
    sources = [config] + ([Fields.load(generation)] if generation.exists() else [])
    named = {token: source.where for source in sources for token in _named(source)}
    own = tokenizer_eos(folder)
    if own is not None:
        named.setdefault(own, f"{folder}: the tokenizer")
    if not named and not any("eos_token_id" in source.values for source in sources):
        named = dict.fromkeys(family.eos, f"{config.where}: the default of {family.model_type}")
    for token, where in named.items():
        if token >= vocab:
            _log.warning("%s: end-of-sequence token %d is left out, as the vocabulary has %d tokens", where, token, vocab)
    return tuple(token for token in named if 0 <= token < vocab)


def _named(source: Fields) -> list[int]:
    value = source.get("eos_token_id", [])
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise source.wrong("eos_token_id", value, "a token id or a list of them")
    return ids
