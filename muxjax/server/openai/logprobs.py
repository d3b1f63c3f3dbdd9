"""Log-probabilities of tokens in OpenAI's shapes. They are the model's own, before temperature, penalties and filters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from muxjax.server.text.tokenizer import Tokenizer
from muxjax.types import Logprobs

Json = dict[str, Any]
_LEAST = -9999.0  # stands for minus infinity, which JSON does not know


class TokenLogprobs(NamedTuple):
    """A token of a choice, with its place in the text.

    Args:
      offset: characters of the choice's text before it.
      logprobs: None for a prompt's first token, which nothing predicts.
    """

    token: int
    offset: int
    logprobs: Logprobs | None


def characters(tokenizer: Tokenizer, token: int, *, special: bool) -> int:
    """Characters that begin in a token, as the text shows it."""
    if tokenizer.is_special(token) and not special:
        return 0
    return sum(byte & 0xC0 != 0x80 for byte in tokenizer.piece(token))


def echo_logprobs(
    tokenizer: Tokenizer, prompt: Sequence[int], logprobs: Sequence[Logprobs], shown: int, *, special: bool
) -> list[TokenLogprobs]:
    """Log-probabilities of an echoed prompt that is shown as so many characters.

    A decoder may drop the space before the first word, so offsets are counted from the end.
    """
    entries, after = [], shown
    for token, logprobs_of in zip(reversed(prompt), [*reversed(logprobs), None], strict=True):
        after = max(0, after - characters(tokenizer, token, special=special))
        entries.append(TokenLogprobs(token, after, logprobs_of))
    return entries[::-1]


def completion_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs], most: int) -> Json:
    """A completion's parallel lists; the token itself is always among the most likely ones."""
    return {
        "tokens": [spelled(tokenizer, entry.token) for entry in entries],
        "token_logprobs": [entry.logprobs and _finite(entry.logprobs.logprob) for entry in entries],
        "top_logprobs": [entry.logprobs and _top(tokenizer, entry.logprobs, most) for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs], most: int) -> Json:
    """An object for each token of a chat's answer."""
    content = []
    for logprobs in (entry.logprobs for entry in entries if entry.logprobs):
        top = [_entry(tokenizer, token, logprob) for token, logprob in logprobs.top[:most]]
        content.append({**_entry(tokenizer, logprobs.token, logprobs.logprob), "top_logprobs": top})
    return {"content": content, "refusal": None}


def prompt_logprobs(tokenizer: Tokenizer, logprobs: Sequence[Logprobs], most: int) -> list[Json | None]:
    """A prompt's log-probabilities by token id, null for its first token. Source: vLLM's `prompt_logprobs`."""
    return [None, *(_by_id(tokenizer, one, most) for one in logprobs)]


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """A token as text; as its bytes where they are no whole characters, as its id where there are none."""
    piece = tokenizer.piece(token)
    if not piece:
        return f"token_id:{token}"
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _top(tokenizer: Tokenizer, one: Logprobs, most: int) -> dict[str, float]:
    """Log-probabilities by spelling; of tokens that are spelled alike the most likely one counts."""
    top: dict[str, float] = {}
    for token, logprob in (*one.top[:most], (one.token, one.logprob)):
        top.setdefault(spelled(tokenizer, token), _finite(logprob))
    return top


def _entry(tokenizer: Tokenizer, token: int, logprob: float) -> Json:
    return {"token": spelled(tokenizer, token), "logprob": _finite(logprob), "bytes": list(tokenizer.piece(token))}


def _by_id(tokenizer: Tokenizer, one: Logprobs, most: int) -> Json:
    ranked = {token: (logprob, place + 1) for place, (token, logprob) in enumerate(one.top)}
    entries = dict(list(ranked.items())[:most]) | {one.token: ranked.get(one.token, (one.logprob, None))}
    return {
        str(token): {"logprob": _finite(logprob), "rank": rank, "decoded_token": spelled(tokenizer, token)}
        for token, (logprob, rank) in entries.items()
    }


def _finite(logprob: float) -> float:
    """Also in place of what is no number."""
    return logprob if logprob > _LEAST else _LEAST
