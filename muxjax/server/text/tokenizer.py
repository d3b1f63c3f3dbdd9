"""A model's tokenizer: text to tokens and back."""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from muxjax.errors import RequestError
from muxjax.server.text.byte_detokenizer import ByteDetokenizer
from muxjax.server.text.detokenizer import ContextDetokenizer, Detokenizer
from muxjax.server.text.token_bytes import TokenBytes
from muxjax.specs.tokens import is_cleaned, load_tokenizer

_SHORT = 4096
"""Characters or tokens; with more, a call for many is used for one, for while it runs other threads may run too."""

_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """A model's tokenizer."""

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Token ids; with `special`, such as the tokenizer itself adds around a text (a BOS)."""
        ...

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Text, with or without special tokens; U+FFFD for what is no whole character."""
        ...

    def piece(self, token: int) -> bytes:
        """Bytes that one token stands for, special ones included; empty for an unknown one."""
        ...

    def is_special(self, token: int) -> bool:
        """Left out of texts unless it is asked for."""
        ...

    def vocabulary(self) -> Mapping[str, int]:
        """All tokens by how they are written; empty where they are written by no file."""
        ...

    @property
    def joins_bytes(self) -> bool:
        """A text is the bytes of its tokens, one behind the other."""
        ...

    @property
    def marks(self) -> Mapping[str, int]:
        """Tokens that are no text for a grammar, by what they are called: special ones, and added ones in angle brackets."""
        ...


class HfTokenizer:
    """The tokenizer of a file, as `tokenizer.json` is one, with the tokens that files beside it add.

    Raises:
      ConfigError: the file is none, or one beside it is not what it must be.
    """

    def __init__(self, path: Path):
        self._tokenizer = load_tokenizer(path)
        if is_cleaned(self._tokenizer, path.parent):
            _log.warning("%s: clean_up_tokenization_spaces is not honoured: spaces before punctuation stay", path.parent)
        self._pieces = TokenBytes(self._tokenizer)
        self.joins_bytes = self._pieces.is_whole
        added = self._tokenizer.get_added_tokens_decoder()
        self._specials = frozenset(token for token, entry in added.items() if entry.special)
        self.marks = {
            entry.content: token
            for token, entry in added.items()
            if entry.special or (entry.content.startswith("<") and entry.content.endswith(">"))
        }

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        if len(text) <= _SHORT:
            return tuple(self._tokenizer.encode(_valid(text), add_special_tokens=special).ids)
        return tuple(self._tokenizer.encode_batch_fast([_valid(text)], add_special_tokens=special)[0].ids)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        if len(tokens) <= _SHORT:
            return self._tokenizer.decode(tokens, skip_special_tokens=not special)
        return self._tokenizer.decode_batch([tokens], skip_special_tokens=not special)[0]

    def piece(self, token: int) -> bytes:
        return self._pieces.of(token)

    def vocabulary(self) -> Mapping[str, int]:
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def is_special(self, token: int) -> bool:
        return token in self._specials


class ByteTokenizer:
    """Stands in where weights are random and there is no tokenizer: a token a byte, printed as some visible character.

    Args:
      vocab: number of the model's tokens.
    """

    def __init__(self, vocab: int):
        self._vocab = vocab
        self.joins_bytes = True
        self.marks: Mapping[str, int] = {}

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        return tuple(byte % self._vocab for byte in _valid(text).encode())

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        first, printable = ord(" "), 95
        return "".join(chr(first + (token - first) % printable) for token in tokens)

    def piece(self, token: int) -> bytes:
        return self.decode([token]).encode()

    def vocabulary(self) -> Mapping[str, int]:
        return {}

    def is_special(self, token: int) -> bool:
        return False


def detokenizer_of(tokenizer: Tokenizer, prompt: Sequence[int], *, special: bool = False, shown: Collection[str] = ()) -> Detokenizer:
    """Of an answer to that prompt.

    Args:
      special: special tokens are shown; else those of the texts `shown` alone.
    """
    texts = {token: text for text, token in tokenizer.marks.items() if text in shown and tokenizer.is_special(token)}
    if tokenizer.joins_bytes:
        return ByteDetokenizer(tokenizer.piece if special else partial(_shown_piece, tokenizer, texts), prompt)
    if special or not texts:
        return ContextDetokenizer(partial(tokenizer.decode, special=special), prompt)
    return ContextDetokenizer(partial(_decode_showing, tokenizer, texts), prompt)


def _shown_piece(tokenizer: Tokenizer, shown: Collection[int], token: int) -> bytes:
    return b"" if tokenizer.is_special(token) and token not in shown else tokenizer.piece(token)


def _decode_showing(tokenizer: Tokenizer, texts: Mapping[int, str], tokens: Sequence[int]) -> str:
    """Text of tokens without special ones, but for those that have one here."""
    text, begun = "", 0
    for place, token in enumerate(tokens):
        if token in texts:
            text += tokenizer.decode(tokens[begun:place]) + texts[token]
            begun = place + 1
    return text + tokenizer.decode(tokens[begun:])


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"the text has half of a surrogate pair at character {error.start}") from error
    return text
