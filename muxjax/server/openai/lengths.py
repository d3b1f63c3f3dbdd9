"""Lengths of texts that are tokenized: what could never fit is refused before it costs anything."""

from muxjax.errors import RequestError
from muxjax.server.catalog import ServedModel

MOST_CUT_CHARACTERS = 2**18
"""Of texts whose first tokens are not wanted, or that are tokenized alone: of models whose context is long, more."""
_CUT_CHARACTERS_PER_TOKEN = 16
_LONG_CHARACTERS = 2**16
_PIECE_CHARACTERS = 2**15
_SPARE_TOKENS = 1024


def require_fit(model: ServedModel, text: str, param: str) -> None:
    """Counts the tokens of a long text piece by piece, and only up to more than the model could take.

    A text has about as many tokens as its pieces have together; twice the context is beyond any doubt, and less is counted exactly later.

    Raises:
      RequestError: it has too many.
    """
    if len(text) <= _LONG_CHARACTERS:
        return
    most, count = 2 * model.max_model_len + _SPARE_TOKENS, 0
    for begin in range(0, len(text), _PIECE_CHARACTERS):
        count += len(model.tokenizer.encode(text[begin : begin + _PIECE_CHARACTERS], special=False))
        if count > most:
            raise RequestError(
                f"This model's maximum context length is {model.max_model_len} tokens. However, your {param} has far more: its first "
                f"{begin + _PIECE_CHARACTERS} of {len(text)} characters alone have about {count}. Please shorten it.",
                param=param,
                code="context_length_exceeded",
            )


def require_short(model: ServedModel, characters: int, param: str) -> None:
    """Raises RequestError: what is to be tokenized whatever the model could take has too many characters."""
    most = max(MOST_CUT_CHARACTERS, _CUT_CHARACTERS_PER_TOKEN * model.max_model_len)
    if characters > most:
        message = f"The {param} has {characters} characters, of which at most {most} are tokenized. Please shorten it."
        raise RequestError(message, param=param, code="context_length_exceeded")
