"""What transformers makes of the idioms (needs transformers)."""

from datetime import datetime
from typing import Any
from unittest import mock

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tests.server.text.idioms import SPECIALS, Idiom


class Then(datetime):
    """A day that does not change."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2026, 7, 4, 15, 30, tzinfo=tz)


def render(idiom: Idiom) -> str | None:
    """The prompt of `apply_chat_template`; None where it refuses the messages."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIALS)
    with mock.patch("transformers.utils.chat_template_utils.datetime", Then):
        try:
            return tokenizer.apply_chat_template(
                idiom.messages,
                tools=idiom.tools,
                chat_template=idiom.template,
                add_generation_prompt=idiom.answer,
                continue_final_message=idiom.resume,
                tokenize=False,
                **idiom.extra,
            )
        except Exception:  # whatever the template raises
            return None
