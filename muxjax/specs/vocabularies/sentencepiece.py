"""Tokenizer of a sentencepiece model, as tokenizer.model is.

Source: sentencepiece_model.proto of sentencepiece, for the numbers of fields and their defaults.
"""

from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from muxjax.errors import ConfigError
from muxjax.specs.vocabularies.parts import Wishes, add_ends, merges
from muxjax.specs.vocabularies.protobuf import read_message

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
_LISTED = 0
"""Kind of a piece that files beside the model list as a token, which is added with what they say of it."""
UNIGRAM, BPE = 1, 2
SPACE = "▁"
"""Stands for a space."""
_ALL = 2**20
"""As many spaces as a text may begin with."""


class Piece(NamedTuple):
    text: str
    score: float
    kind: int


class SentencePiece(NamedTuple):
    """What a model's file says.

    Args:
      algorithm: UNIGRAM or BPE.
      charsmap: how characters are normalised; empty for not at all.
      prefix: a space is put before a text; collapse: spaces around a text, and further ones within, are dropped.
      unk, bos, eos: ids; negative for none.
    """

    pieces: list[Piece]
    algorithm: int
    byte_fallback: bool
    charsmap: bytes
    prefix: bool
    collapse: bool
    unk: int
    bos: int
    eos: int

    @property
    def ids(self) -> dict[str, int]:
        return {piece.text: token for token, piece in enumerate(self.pieces)}

    def text(self, token: int) -> str | None:
        """Of a piece; None where there is none."""
        return self.pieces[token].text if 0 <= token < len(self.pieces) else None


def read_sentencepiece(path: Path, wishes: Wishes) -> Tokenizer:
    """
    Raises:
      ConfigError: the file is no sentencepiece model, or asks for something that the library has no part for.
    """
    try:
        model = _parse(path.read_bytes())
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"{path} is no sentencepiece model: {error}", field="path") from error
    listed = {token: Piece(text, 0.0, _LISTED) for token, text in wishes.texts.items()}
    model = model._replace(pieces=[listed.get(token, piece) for token, piece in enumerate(model.pieces)])
    if fault := _fault(model):
        raise ConfigError(f"{path}: {fault}: give the folder a tokenizer.json", field="path")
    tokenizer = Tokenizer(_unigram(model) if model.algorithm == UNIGRAM else _bpe(model))
    tokenizer.normalizer = normalizers.Sequence(_normalizers(model, prefix=model.prefix and not wishes.prefix_once))
    if model.prefix and wishes.prefix_once:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
    before = decoders.Strip(" ", _ALL if model.collapse else int(model.prefix), 0)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), before])
    tokenizer.add_tokens([_added(piece) for piece in model.pieces if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)])
    add_ends(tokenizer, model.text(model.bos), model.text(model.eos), wishes)
    return tokenizer


def _parse(data: bytes) -> SentencePiece:
    message = read_message(data)
    pieces = [_piece(read_message(entry)) for entry in _messages(message, 1)]
    if not pieces:
        raise ValueError("it has no pieces")
    [trainer], [normalizer] = ([read_message(entry) for entry in _messages(message, number)] or [{}] for number in (2, 3))
    if _last(trainer, 24, 0):
        raise ValueError("it has spaces behind words, which is not supported")
    return SentencePiece(
        pieces=pieces,
        algorithm=_last(trainer, 3, UNIGRAM),
        byte_fallback=bool(_last(trainer, 35, 0)),
        charsmap=_last(normalizer, 2, b""),
        prefix=bool(_last(normalizer, 3, 1)),
        collapse=bool(_last(normalizer, 4, 1)),
        unk=next((token for token, piece in enumerate(pieces) if piece.kind == UNKNOWN), -1),
        bos=_signed(_last(trainer, 41, 1)),
        eos=_signed(_last(trainer, 42, 2)),
    )


def _messages(message: dict[int, list[Any]], number: int) -> list[bytes]:
    entries = message.get(number, [])
    if not all(isinstance(entry, bytes) for entry in entries):
        raise ValueError(f"its field {number} is no message")
    return entries


def _piece(message: dict[int, list[Any]]) -> Piece:
    return Piece(_last(message, 1, b"").decode(), float(_last(message, 2, 0.0)), _last(message, 3, NORMAL))


def _last(message: dict[int, list[Any]], number: int, default: Any) -> Any:
    """A field's value, of the kind that its default is of."""
    value = message.get(number, [default])[-1]
    if not isinstance(value, type(default)):
        raise ValueError(f"its field {number} is of another kind")
    return value


def _signed(value: int) -> int:
    """Negative numbers are written as if they had 64 bits."""
    return value - 2**64 if value >= 2**63 else value


def _fault(model: SentencePiece) -> str | None:
    """What is not supported; None for nothing."""
    if model.algorithm not in (UNIGRAM, BPE):
        return "models of words or characters are not supported"
    if len(model.ids) < len(model.pieces):
        return "a piece stands there twice"
    if strange := [piece for piece in model.pieces if piece.kind not in (_LISTED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE)]:
        return f"pieces of kind {strange[0].kind}, as {strange[0].text!r}, are not supported"
    if spaced := [piece.text for piece in model.pieces if piece.kind == USER_DEFINED and SPACE in piece.text]:
        return f"pieces with spaces that are defined by users, as {spaced[0]!r}, are not supported"
    if model.unk < 0:
        return "it has no piece for what is unknown"
    scores = [piece.score for piece in model.pieces if piece.kind == NORMAL and len(set(piece.text)) > 1]
    if model.algorithm == BPE and len(set(scores)) < len(scores):  # runs of spaces have one, and are made from the left whatever the order
        return "pieces with equal scores are not supported"
    return None


def _unigram(model: SentencePiece) -> models.Unigram:
    return models.Unigram([(piece.text, piece.score) for piece in model.pieces], model.unk, model.byte_fallback)


def _bpe(model: SentencePiece) -> models.BPE:
    """Pairs are merged by the scores of what they make, the highest first."""
    normal = sorted((piece for piece in model.pieces if piece.kind == NORMAL), key=lambda piece: -piece.score)
    known = {piece.text: token for token, piece in enumerate(model.pieces) if piece.kind == NORMAL}
    return models.BPE(
        model.ids,
        merges((piece.text for piece in normal), known),
        unk_token=model.pieces[model.unk].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def _normalizers(model: SentencePiece, *, prefix: bool) -> list[normalizers.Normalizer]:
    mapped = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    ends, runs = Regex(rf"\A +|[ {SPACE}]+\z"), Regex(" {2,}")
    collapsed = [normalizers.Replace(ends, ""), normalizers.Replace(runs, " ")] if model.collapse else []
    prepended = [normalizers.Prepend(SPACE)] if prefix else []
    return [*mapped, *collapsed, *prepended, normalizers.Replace(" ", SPACE)]


def _added(piece: Piece) -> AddedToken:
    return AddedToken(piece.text, special=piece.kind != USER_DEFINED, normalized=False)
