"""What tokenizers of all forms are made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What files beside a vocabulary say of it.

    Args:
      texts: of tokens by id that are listed there, whatever the vocabulary calls them.
      add_bos, add_eos: a text begins with the token for that, and ends with it.
      prefix_once: of a text with special tokens, only the beginning gets the space that its vocabulary puts before texts; else whatever
        stands behind one of them too.
    """

    texts: Mapping[int, str] = field(default_factory=dict)
    add_bos: bool = True
    add_eos: bool = False
    prefix_once: bool = False


def _characters() -> tuple[str, ...]:
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return tuple(chr(byte if byte in visible else 256 + hidden.index(byte)) for byte in range(256))


CHARACTERS = _characters()
"""Byte-level BPE's way to write each byte: visible ones as themselves, the others as the characters from 256 on.

Source: GPT-2's `bytes_to_unicode`.
"""


def merges(pieces: Iterable[str], known: Mapping[str, int]) -> list[tuple[str, str]]:
    """All pairs of known pieces that make those pieces, which come in the order in which they are made.

    Pairs that make the same piece stand side by side, longest left half first: as runs of one character pair up from the left, that is the
    one that stands further left.
    """
    splits = ((piece[:cut], piece[cut:]) for piece in pieces for cut in range(len(piece) - 1, 0, -1))
    return [(left, right) for left, right in splits if left in known and right in known]


def add_ends(tokenizer: Tokenizer, bos: str | None, eos: str | None, wishes: Wishes) -> None:
    """Has texts begin and end with tokens, where there are such."""
    first = [bos] if bos and wishes.add_bos else []
    last = [eos] if eos and wishes.add_eos else []
    if first or last:
        one, other = ([*first, text, *last] for text in ("$A", "$B"))
        named = [(text, tokenizer.token_to_id(text)) for text in {*first, *last}]
        pair = [*one, *(f"{part}:1" for part in other)]
        tokenizer.post_processor = TemplateProcessing(single=one, pair=pair, special_tokens=named)
