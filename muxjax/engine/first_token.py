"""What a request says of its tokens, held together before it waits: rules that forbid every first token are refused at the door."""

import numpy as np

from muxjax.engine.grammar import Matcher
from muxjax.errors import RequestError
from muxjax.types import Sampling


def check_first_token(sampling: Sampling, vocab: int, matcher: Matcher | None) -> None:
    """Raises RequestError: no token may come first, by all that the request says of tokens.

    Args:
      matcher: at the beginning of the answer, where it has a grammar.
    """
    bans = {words[0] for words in sampling.bad_words if len(words) == 1}
    if matcher is None and sampling.min_tokens:
        bans |= sampling.stop_token_ids
    if sampling.allowed_token_ids is None and (not bans if matcher else len(bans) < vocab):
        return
    allowed = np.ones(vocab, bool)
    if matcher is not None:
        bits = np.unpackbits(matcher.bits().view(np.uint8), bitorder="little")[:vocab]
        allowed[:] = np.pad(bits, (0, vocab - len(bits)))
    if sampling.allowed_token_ids is not None:
        allowed &= np.isin(np.arange(vocab), list(sampling.allowed_token_ids))
    allowed[list(bans)] = False
    if not allowed.any():
        raise _contradiction(sampling, matcher)


def _contradiction(sampling: Sampling, matcher: Matcher | None) -> RequestError:
    rules = {
        "allowed_token_ids": sampling.allowed_token_ids is not None,
        "bad_words": any(len(words) == 1 for words in sampling.bad_words),
        "min_tokens": matcher is None and sampling.min_tokens > 0,
        "the grammar": matcher is not None,
    }
    names = [name for name, holds in rules.items() if holds]
    return RequestError(f"{', '.join(names)} together forbid every first token", param=names[0], code="invalid_value")
