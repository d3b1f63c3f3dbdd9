"""Tokenizer of a checkpoint: its vocabulary, and the tokens that the files beside it add or name.

Source: how transformers 5.24 reads a folder for its PreTrainedTokenizerFast.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models

from muxjax.errors import ConfigError
from muxjax.specs.fields import Fields
from muxjax.specs.vocabularies.parts import Wishes
from muxjax.specs.vocabularies.sentencepiece import read_sentencepiece
from muxjax.specs.vocabularies.tekken import read_tekken

TOKENIZER = "tokenizer.json"
VOCABULARIES = (TOKENIZER, "tekken.json", "tokenizer.model")
"""Files that hold a tokenizer, the first that is there."""
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA, _ADDITIONAL = "extra_special_tokens", "additional_special_tokens"
"""Tokens without names; the second is the older spelling. An object of them has names."""
_NAMED = "model_specific_special_tokens"
_TYPE = "__type"
"""Marks an object of tokenizer_config.json as a token; those of special_tokens_map.json have no mark."""
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def tokenizer_file(folder: Path) -> Path | None:
    """What holds a folder's tokenizer; None where there is nothing that does."""
    return next((folder / name for name in VOCABULARIES if (folder / name).exists()), None)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file, with the tokens that files beside it add; one that splits special tokens finds none in a text.

    Raises:
      ConfigError: a file is not what it must be.
    """
    settings = _settings(path.parent)
    tokenizer = _from_json(path) if path.name == TOKENIZER else _converted(path, settings)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    held = tokenizer.get_added_tokens_decoder()
    named = _named_tokens(settings)
    same = {repr(token) for token in held.values()}
    listed = [token for token in _listed_tokens(settings, path.parent, known=held.keys()) if repr(token) not in same]
    texts = {token.content for token in (*held.values(), *listed)}
    others = {repr(token): token for token in (*named.values(), *_unnamed_tokens(settings)) if token.content not in texts}
    added = [*listed, *others.values()]
    for token in added:
        token.special |= any(token.content == other.content for other in named.values())
    tokenizer.add_tokens(added)
    tokenizer.encode_special_tokens = settings.flag("split_special_tokens")
    return tokenizer


def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path} is no tokenizer: {error}") from error


def _converted(path: Path, settings: Fields) -> Tokenizer:
    """Of a vocabulary in another form, by what the files beside it say of it."""
    listed = settings.child("added_tokens_decoder")
    wishes = Wishes(
        texts={_id(listed, text): _token(listed, text, special=False).content for text in listed.values},
        add_bos=settings.get("add_bos_token", True) is True,
        add_eos=settings.get("add_eos_token", False) is True,
        prefix_once=settings.get("legacy", True) is False,
    )
    tokenizer = read_sentencepiece(path, wishes) if path.suffix == ".model" else read_tekken(path, wishes)
    beyond = [token for token in sorted(wishes.texts) if token >= tokenizer.get_vocab_size()]
    if beyond != list(range(tokenizer.get_vocab_size(), tokenizer.get_vocab_size() + len(beyond))):
        raise settings.wrong("added_tokens_decoder", beyond, f"the ids that follow upon the {tokenizer.get_vocab_size()} of {path.name}")
    return tokenizer


def tokenizer_text(folder: Path) -> str | None:
    """What would be the folder's whole tokenizer.json; None where there is no tokenizer.

    Raises:
      ConfigError: a file is not what it must be.
    """
    path = tokenizer_file(folder)
    return load_tokenizer(path).to_str() if path else None


def special_texts(folder: Path) -> dict[str, str | list[str]]:
    """Texts of special tokens by name, as a chat template gets them; `additional_special_tokens` is a list.

    Raises:
      ConfigError: a file is not what it must be.
    """
    settings = _settings(folder)
    texts: dict[str, str | list[str]] = {name: token.content for name, token in _named_tokens(settings).items()}
    extra = [token.content for token in _unnamed_tokens(settings)]
    return {**texts, _ADDITIONAL: extra} if extra else texts


def is_cleaned(tokenizer: Tokenizer, folder: Path) -> bool:
    """transformers would take spaces before punctuation out of every text that it decodes."""
    forced = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    settings = _settings(folder)
    return settings.get("clean_up_tokenization_spaces") is True and (
        not isinstance(tokenizer.model, models.BPE) or bool(settings.get(forced))
    )


def tokenizer_eos(folder: Path) -> int | None:
    """The id of the tokenizer's own end-of-sequence token; None where no file names one.

    Raises:
      ConfigError: a file is not what it must be.
    """
    token, path = _named_tokens(_settings(folder)).get("eos_token"), tokenizer_file(folder)
    return load_tokenizer(path).token_to_id(token.content) if token and path else None


def _settings(folder: Path) -> Fields:
    """tokenizer_config.json, and special_tokens_map.json over it where it lists no added tokens itself.

    Tokens that have names of the model's own come to stand under `model_specific_special_tokens`, as in transformers: where
    tokenizer_config.json names some outside it, by their texts or in an object of extra ones, they are all that it names.
    """
    config = _load_lists(folder / "tokenizer_config.json")
    values = {
        name: value for name, value in config.values.items() if not (_is_own(name) and isinstance(value, dict) and _TYPE not in value)
    }
    if _ADDITIONAL in values and not values.get(_EXTRA):
        values[_EXTRA] = values.pop(_ADDITIONAL)
    own = {name: values.pop(name) for name in list(values) if _is_own(name) and isinstance(values[name], str)}
    own |= _popped_names(values)
    if own:
        values[_NAMED] = own
    if config.get("added_tokens_decoder") is None:
        over = _load_lists(folder / "special_tokens_map.json").values
        first, more = values.get(_EXTRA) or [], over.get(_EXTRA)
        values |= over
        if isinstance(more, list):
            values[_EXTRA] = [*first, *(token for token in more if token not in first)]
        if named := _popped_names(values):
            values[_NAMED] = {**Fields(where=config.where, values=values).child(_NAMED).values, **named}
    return Fields(where=config.where, values=values)


def _popped_names(values: dict[str, Any]) -> Mapping[str, Any]:
    """Those of an object of extra tokens, which is taken out."""
    return values.pop(_EXTRA) if isinstance(values.get(_EXTRA), dict) else {}


def _load_lists(path: Path) -> Fields:
    fields = _load(path)
    for name in (_EXTRA, _ADDITIONAL):
        value = fields.get(name)
        if value and not isinstance(value, list | dict):
            raise fields.wrong(name, value, "a list of tokens, or an object of named ones")
    return fields


def _load(path: Path) -> Fields:
    return Fields.load(path) if path.exists() else Fields(where=str(path), values={})


def _is_own(name: str) -> bool:
    """The name of a token that only some models have."""
    return name.endswith("_token") and name not in _NAMES


def _listed_tokens(settings: Fields, folder: Path, known: Iterable[int]) -> list[AddedToken]:
    """Tokens that are listed with an id, by id: in tokenizer_config.json, or else those of added_tokens.json that tokenizer.json lacks."""
    if settings.get("added_tokens_decoder") is not None:
        entries = settings.child("added_tokens_decoder")
        tokens = {_id(entries, text): _token(entries, text, special=False) for text in entries.values}
        return [token for _, token in sorted(tokens.items(), key=lambda item: item[0])]
    entries, special = _load(folder / "added_tokens.json"), _special_texts(settings)
    places = {entries.get(text): AddedToken(text, special=text in special, normalized=text not in special) for text in entries.values}
    if not all(isinstance(place, int) for place in places):
        raise ConfigError(f"{entries.where} must give each token its id")
    return [places[place] for place in sorted(places.keys() - set(known))]


def _id(entries: Fields, text: str) -> int:
    if not text.isdecimal():
        raise entries.wrong(text, entries.get(text), "named by a token id")
    return int(text)


def _special_texts(settings: Fields) -> set[str]:
    """What makes a token of added_tokens.json special: a usual name or a place among the extra ones. One that is marked as a token does not
    count: it comes to be special by its name, and stays normalized."""
    values = [*(settings.get(name) for name in _NAMES), *settings.get(_EXTRA, [])]
    contents = [value.get("content") if isinstance(value, dict) and _TYPE not in value else value for value in values]
    return {content for content in contents if isinstance(content, str)}


def _named_tokens(settings: Fields) -> dict[str, AddedToken]:
    """Those of the usual names first, then whatever else is called `..._token`, and those that have names of the model's own."""
    own = settings.child(_NAMED)
    outside = [name for name, value in settings.values.items() if _is_own(name) and _is_token(value)]
    places = dict.fromkeys((*_NAMES, *outside), settings) | dict.fromkeys(own.values, own)
    return {name: _token(place, name) for name, place in places.items() if place is own or place.get(name) is not None}


def _unnamed_tokens(settings: Fields) -> list[AddedToken]:
    name = _EXTRA if _EXTRA in settings.values else _ADDITIONAL
    tokens = settings.get(name, [])
    if not isinstance(tokens, list):
        raise settings.wrong(name, tokens, "a list of tokens")
    entries = Fields(where=f"{settings.where}: {name}", values={str(place): token for place, token in enumerate(tokens)})
    return [_token(entries, place) for place in entries.values]


def _is_token(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "content" in value)


def _token(settings: Fields, name: str, *, special: bool = True) -> AddedToken:
    """A token is written as its text, or as an object with its content and flags.

    Args:
      special: where the flags do not say.
    """
    value = settings.get(name)
    flags: Mapping[str, Any] = value if isinstance(value, dict) else {"content": value}
    content = flags.get("content")
    if not isinstance(content, str):
        raise settings.wrong(name, value, "a token's text, or an object with its content")
    return AddedToken(content, **{"special": special} | {flag: bool(flags[flag]) for flag in _FLAGS if flags.get(flag) is not None})
