"""Tokenizers in which the marks of calls and reasoning are tokens, and one in which they are letters."""

from typing import NamedTuple

from llguidance import LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<table>")
SPECIAL = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "<|python_start|>", "<|python_end|>")


class Words(NamedTuple):
    """A tokenizer, for us and for llguidance."""

    ours: Tokenizer
    theirs: LLTokenizer
    marks: dict[str, int]


def words(*, marks: bool) -> Words:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(['{"name": "f", "arguments": {"parameters": hello'] * 3, trainer)
    if marks:
        tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
        tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    added = {entry.content: token for token, entry in tokenizer.get_added_tokens_decoder().items()}
    return Words(tokenizer, LLTokenizer(tokenizer.to_str(), eos_token=[1]), added)


TOKENS, LETTERS = words(marks=True), words(marks=False)
