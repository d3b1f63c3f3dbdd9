"""Bytes that single tokens stand for: a character may lie across several tokens."""

import json
import re
from collections.abc import Iterator

from tokenizers import Tokenizer

from muxjax.specs.vocabularies.parts import CHARACTERS

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenBytes:
    """The bytes of each token of a tokenizer, as its decoder reads them.

    Attributes:
      is_whole: a text is the bytes of its tokens, one behind the other, and nothing else.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}
        self._added = {token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()}
        kinds = set(_kinds(json.loads(tokenizer.decoder.__getstate__()))) if tokenizer.decoder else set()
        self._byte_level = "ByteLevel" in kinds
        self.is_whole = kinds == {"ByteLevel"}
        self._byte_fallback = "ByteFallback" in kinds
        self._underlined = bool(kinds & {"Metaspace", "Replace"})

    def of(self, token: int) -> bytes:
        """Empty for an id that the tokenizer does not know."""
        if token not in self._known:
            self._known[token] = self._read(token)
        return self._known[token]

    def _read(self, token: int) -> bytes:
        piece = self._tokenizer.id_to_token(token) or ""
        if self._byte_level:
            codes = [_BYTE_OF_CHARACTER.get(character) for character in piece]
            return piece.encode() if None in codes else b"".join(filter(None, codes))
        if token in self._added:
            return self._added[token].encode()
        byte = _BYTE.fullmatch(piece) if self._byte_fallback else None
        if byte:
            return bytes.fromhex(byte[1])
        return (piece.replace("▁", " ") if self._underlined else piece).encode()


def _kinds(decoder: dict) -> Iterator[str]:
    yield decoder["type"]
    for inner in decoder.get("decoders", []):
        yield from _kinds(inner)


_BYTE_OF_CHARACTER = {character: bytes([byte]) for byte, character in enumerate(CHARACTERS)}
