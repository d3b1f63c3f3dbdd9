"""Tokenizer of a checkpoint: its tokenizer.json, and the tokens that the files beside it add or name.

Source: how transformers 5.24 reads a folder for its PreTrainedTokenizerFast.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from muxjax.errors import ConfigError
from muxjax.specs.fields import Fields

TOKENIZER = "tokenizer.json"
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("extra_special_tokens", "additional_special_tokens")
"""The first that is there and not empty; an object of them has names."""
_NAMED = "model_specific_special_tokens"


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, with the tokens that files beside it add; one that splits special tokens finds none in a text.

    Raises:
      ConfigError: a file is not what it must be.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path} is no tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _settings(path.parent)
    listed = _listed_tokens(settings, path.parent, known=tokenizer.get_added_tokens_decoder().keys())
    tokenizer.add_tokens(listed)
    texts = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([token for token in _special_tokens(settings) if token.content not in texts])
    tokenizer.encode_special_tokens = settings.flag("split_special_tokens")
    return tokenizer


def tokenizer_text(folder: Path) -> str | None:
    """What would be the folder's whole tokenizer.json; None where there is none.

    Raises:
      ConfigError: a file is not what it must be.
    """
    path = folder / TOKENIZER
    return load_tokenizer(path).to_str() if path.exists() else None


def special_texts(folder: Path) -> dict[str, str | list[str]]:
    """Texts of special tokens by name, as a chat template gets them; `additional_special_tokens` is a list.

    Raises:
      ConfigError: a file is not what it must be.
    """
    settings = _settings(folder)
    texts: dict[str, str | list[str]] = {name: token.content for name, token in _named_tokens(settings).items()}
    extra = [token.content for token in _unnamed_tokens(settings)]
    return {**texts, "additional_special_tokens": extra} if extra else texts


def tokenizer_eos(folder: Path) -> int | None:
    """The id of the tokenizer's own end-of-sequence token; None where no file names one.

    Raises:
      ConfigError: a file is not what it must be.
    """
    token = _named_tokens(_settings(folder)).get("eos_token")
    if token is None or not (folder / TOKENIZER).exists():
        return None
    return load_tokenizer(folder / TOKENIZER).token_to_id(token.content)


def _settings(folder: Path) -> Fields:
    """tokenizer_config.json, and special_tokens_map.json over it where it lists no added tokens itself.

    Tokens that have names of the model's own come to stand under `model_specific_special_tokens`, as in transformers: where
    tokenizer_config.json names some outside it, by their texts or in an object of extra ones, they are all that it names.
    """
    config = _load(folder / "tokenizer_config.json")
    own = {name: value for name, value in config.values.items() if _is_own_name(name) and isinstance(value, str)}
    own |= _named_in_list(config)
    values = {name: value for name, value in config.values.items() if name not in own} | ({_NAMED: own} if own else {})
    if config.get("added_tokens_decoder") is None:
        over = _load(folder / "special_tokens_map.json")
        values |= over.values
        if named := _named_in_list(over):
            values[_NAMED] = {**Fields(where=config.where, values=values).child(_NAMED).values, **named}
    return Fields(where=config.where, values=values)


def _named_in_list(settings: Fields) -> Mapping[str, Any]:
    value = next((settings.values[name] for name in _LISTS if settings.values.get(name)), None)
    return value if isinstance(value, dict) else {}


def _is_own_name(name: str) -> bool:
    return name.endswith("_token") and name not in _NAMES


def _load(path: Path) -> Fields:
    return Fields.load(path) if path.exists() else Fields(where=str(path), values={})


def _listed_tokens(settings: Fields, folder: Path, known: Iterable[int]) -> list[AddedToken]:
    """Tokens that are listed with an id, by id: in tokenizer_config.json, or else those of added_tokens.json that tokenizer.json lacks."""
    if settings.get("added_tokens_decoder") is not None:
        entries = settings.child("added_tokens_decoder")
        tokens = {_id(entries, text): _token(entries, text, special=False) for text in entries.values}
        return [token for _, token in sorted(tokens.items(), key=lambda item: item[0])]
    entries, special = _load(folder / "added_tokens.json"), {token.content for token in _special_tokens(settings)}
    places = {entries.get(text): AddedToken(text, special=text in special) for text in entries.values}
    if not all(isinstance(place, int) for place in places):
        raise ConfigError(f"{entries.where} must give each token its id")
    return [places[place] for place in sorted(places.keys() - set(known))]


def _id(entries: Fields, text: str) -> int:
    if not text.isdecimal():
        raise entries.wrong(text, entries.get(text), "named by a token id")
    return int(text)


def _special_tokens(settings: Fields) -> list[AddedToken]:
    return [*_named_tokens(settings).values(), *_unnamed_tokens(settings)]


def _named_tokens(settings: Fields) -> dict[str, AddedToken]:
    """Those of the usual names, whatever else is called `..._token`, and those that have names of the model's own."""
    outside = [name for name, value in settings.values.items() if _is_own_name(name) and _is_token(value)]
    tokens = {name: _token(settings, name) for name in (*_NAMES, *outside) if settings.get(name) is not None}
    own = settings.child(_NAMED)
    return tokens | {name: _token(own, name) for name in own.values}


def _unnamed_tokens(settings: Fields) -> list[AddedToken]:
    for name in _LISTS:
        value = settings.get(name)
        if value and isinstance(value, list):
            entries = Fields(where=f"{settings.where}: {name}", values={str(place): entry for place, entry in enumerate(value)})
            return [_token(entries, place) for place in entries.values]
        if value and not isinstance(value, dict):
            raise settings.wrong(name, value, "a list of tokens, or an object of named ones")
    return []


def _is_token(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "content" in value)


def _token(settings: Fields, name: str, *, special: bool = True) -> AddedToken:
    """A token is written as its text, or as an object with its content and flags."""
    value = settings.get(name)
    flags: Mapping[str, Any] = value if isinstance(value, dict) else {"content": value}
    content = flags.get("content")
    if not isinstance(content, str):
        raise settings.wrong(name, value, "a token's text, or an object with its content")
    special = bool(flags.get("special", special))
    return AddedToken(
        content,
        single_word=bool(flags.get("single_word", False)),
        lstrip=bool(flags.get("lstrip", False)),
        rstrip=bool(flags.get("rstrip", False)),
        normalized=bool(flags.get("normalized", not special)),
        special=special,
    )
