"""Tokenizer of Mistral's tekken.json: bytes by their ranks behind special tokens.

Source: mistral-common 1.13, for the fields and for the special tokens of files that name none.
"""

import base64
import binascii
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from muxjax.specs.fields import MOST_SIZE, Fields
from muxjax.specs.vocabularies.parts import CHARACTERS, Wishes, add_ends, merges

_BOS, _EOS = "<s>", "</s>"
_FIRST = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> "
    "[IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split()
"""Special tokens of files up to version 7 that name none."""
_NAMELESS = ("v1", "v2", "v3", "v7")


def read_tekken(path: Path, wishes: Wishes) -> Tokenizer:
    """
    Raises:
      ConfigError: the file is none, or its numbers contradict each other.
    """
    fields = Fields.load(path)
    config = fields.child("config")
    size = config.integer("default_vocab_size", most=MOST_SIZE)
    specials = _specials(fields, config)
    pieces = _pieces(fields, size - len(specials))
    texts = [token.content for token in specials] + pieces
    texts = [wishes.texts.get(token, text) for token, text in enumerate(texts)]
    if len(set(texts)) < len(texts):
        raise fields.wrong("vocab", len(pieces), "tokens of which none stands there twice")
    known = {piece: token for token, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE({text: token for token, text in enumerate(texts)}, merges(pieces, known), ignore_merges=True))
    pattern = config.get("pattern")
    if not isinstance(pattern, str):
        raise config.wrong("pattern", pattern, "a regular expression")
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([token for rank, token in enumerate(specials) if rank not in wishes.texts])
    bos, eos = (text if text in texts[: len(specials)] else None for text in (_BOS, _EOS))
    add_ends(tokenizer, bos, eos, wishes)
    return tokenizer


def _specials(fields: Fields, config: Fields) -> list[AddedToken]:
    """Those that are named, and others up to their number."""
    count = config.integer("default_num_special_tokens", most=MOST_SIZE)
    named = fields.get("special_tokens")
    if named is None and config.get("version") in _NAMELESS:
        named = [{"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(_FIRST)]
    if not isinstance(named, list) or len(named) > count:
        raise fields.wrong("special_tokens", named, f"a list of at most default_num_special_tokens={count}")
    entries = [Fields(where=f"{fields.where}: special_tokens", values=entry) for entry in named if isinstance(entry, dict)]
    found = {entry.get("rank"): entry for entry in entries}
    if found.keys() != set(range(len(named))) or not all(isinstance(entry.get("token_str"), str) for entry in entries):
        raise fields.wrong("special_tokens", named, "objects with a token_str, and each rank from 0 once")
    known = [(found[rank].get("token_str"), bool(found[rank].get("is_control", True))) for rank in range(len(named))]
    known += [(f"<SPECIAL_{rank}>", True) for rank in range(len(named), count)]
    return [AddedToken(text, special=is_control, normalized=False) for text, is_control in known]


def _pieces(fields: Fields, count: int) -> list[str]:
    """Byte strings by rank, in the characters that stand for bytes."""
    vocab = fields.get("vocab")
    if not isinstance(vocab, list) or len(vocab) < count or count < 256:
        raise fields.wrong("vocab", vocab, f"a list of at least {max(count, 256)} tokens, by default_vocab_size")
    pieces = []
    for rank, entry in enumerate(vocab[:count]):
        try:
            if entry["rank"] != rank:
                raise ValueError
            pieces.append("".join(CHARACTERS[byte] for byte in base64.b64decode(entry["token_bytes"], validate=True)))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise fields.wrong("vocab", entry, f"an object with rank {rank} and token_bytes in base64 at place {rank}") from None
    return pieces
