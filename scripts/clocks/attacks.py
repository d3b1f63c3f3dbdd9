"""The dearest requests that a client may send: each is within the limits of size, or just beyond one of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from muxjax.engine.options import GRAMMAR_CHARACTERS

COMPLETIONS, CHATS, TOKENIZE = "/v1/completions", "/v1/chat/completions", "/tokenize"
WORDS, LONG = "farm", "long"
"""Models: one that has words for tokens and a template of many filters, and one that takes a thousand tokens."""
LONG_TOKENS = 1000
LONG_TOKEN, LONG_TOKEN_TEXT = 480, "<" + "long" * 25 + ">"
"""A token whose text is long, so that an answer is too."""
CUT = 2**18
"""Characters of a text that is tokenized whatever the model could take."""
CUT_ALL = {"truncate_prompt_tokens": -1}
MOST_KEYS = 2**18 - 10
"""That a body may have."""
FILTERED = 2**17
"""Characters that a slow filter of a template takes."""
FILTERS = ("wordwrap", "urlize", "striptags", "title", "urlencode", "indent")
TEMPLATE = "".join(
    f"{{% if filter == '{name}' %}}{{% for _ in range(20) %}}{{% set _ = messages[0].content | {name} %}}{{% endfor %}}{{% endif %}}"
    for name in FILTERS
) + (
    "{% if filter == 'endless' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    "{% for message in messages %}{{ message.content }} {% endfor %}"
)
"""A template whose filters go over a message again and again, as a client wishes."""


class Post(NamedTuple):
    """One request."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Attack:
    """Requests that one client sends at once.

    Args:
      status: of every answer.
      posts: made for a server that takes bodies of so many bytes.
    """

    name: str
    status: int
    posts: Callable[[int], Sequence[Post]]


def _post(path: str, model: str, **fields: Any) -> Post:
    return Post(path, json.dumps({"model": model, **fields}).encode())


def _completion(model: str, **fields: Any) -> Post:
    return _post(COMPLETIONS, model, **{"prompt": "you", "max_tokens": 1, **fields})


def _chat(text: str, **fields: Any) -> Post:
    return _post(CHATS, WORDS, messages=[{"role": "user", "content": text}], max_tokens=1, **fields)


def _text(size: int) -> str:
    """A text of so many characters, less what the rest of a body has."""
    return ("the cat sat on the mat " * (size // 23))[: size - 400]


def _ids(count: int) -> list[int]:
    return [5 + place % 200 for place in range(count)]


def _words(count: int, letters: int) -> list[str]:
    return [(f"w{place} " * letters)[:letters] for place in range(count)]


def _unknown(keys: int, size: int) -> Post:
    """So many keys that nobody knows, in as many bytes."""
    width = max(size // keys - 8, 8)
    fields = ",".join(f'"{place:0{width}d}":1' for place in range(keys))
    return Post(COMPLETIONS, f'{{"model":"{WORDS}","prompt":"you","max_tokens":1,{fields}}}'.encode())


def _schema(size: int, number: int) -> dict[str, Any]:
    """An object of many members, whose schema has about so many characters."""
    members = {f"m{number}_{place}": {"type": "string", "pattern": f"^[a-z]{{1,{place % 50 + 1}}}$"} for place in range(size // 60)}
    return {"type": "object", "properties": members, "required": list(members)[:1], "additionalProperties": False}


def _schemas(count: int, size: int) -> list[Post]:
    return [_formed(json=_schema(size, number)) for number in range(count)]


def _huge_schema(size: int, number: int) -> dict[str, Any]:
    """An object of members that are described at length."""
    return {"type": "object", "properties": {f"m{number}_{place}": {"const": "x" * 500} for place in range(size // 520)}}


def _lark(size: int) -> str:
    rules = [f'r{place:04}: "x{place}" | "y{place}"' for place in range(size // 40)]
    return "\n".join(["start: " + " | ".join(f"r{place:04}" for place in range(len(rules))), *rules])


def _formed(**form: Any) -> Post:
    return _completion(WORDS, max_tokens=4, structured_outputs=form)


def _row(row: int) -> list[str]:
    return [f"{row}{word}" for word in _words(1000, 5)]


def _filter(name: str) -> dict[str, Any]:
    return {"chat_template_kwargs": {"filter": name}}


def _prompts(count: int) -> list[list[int]]:
    return [[5 + place % 200, *_ids(LONG_TOKENS - 2)] for place in range(count)]


ATTACKS = (
    Attack("nothing", 200, lambda size: []),
    Attack("a prompt as large as a body", 400, lambda size: [_completion(WORDS, prompt=_text(size))]),
    Attack("a prompt of one word as large as a body", 400, lambda size: [_completion(WORDS, prompt="a" * (size - 400))]),
    Attack("a prompt that is to be cut", 200, lambda size: [_completion(WORDS, prompt=_text(CUT), truncate_prompt_tokens=-1)]),
    Attack("1,024 prompts", 400, lambda size: [_completion(WORDS, prompt=[_text(size // 1024)] * 1024)]),
    Attack("1,024 prompts that are to be cut", 400, lambda size: [_completion(WORDS, prompt=[_text(size // 1024)] * 1024, **CUT_ALL)]),
    Attack("a prompt of 1,000,000 token ids", 400, lambda size: [_completion(WORDS, prompt=_ids(1_000_000))]),
    Attack("a message as large as a body", 400, lambda size: [_chat(_text(size))]),
    Attack("50,000 messages", 400, lambda size: [_post(CHATS, WORDS, messages=[{"role": "user", "content": "you"}] * 50_000)]),
    Attack("a long text to be tokenized", 200, lambda size: [_post(TOKENIZE, WORDS, prompt=_text(CUT), return_token_strs=True)]),
    Attack("1,000 bad words for 128 answers", 200, lambda size: [_completion(LONG, bad_words=_words(1000, 7), n=128, max_tokens=4)]),
    Attack("0.5 MB of bad words for 128 answers", 400, lambda size: [_completion(LONG, bad_words=_words(2000, 250), n=128)]),
    Attack("64 rows of 1,000 bad words", 200, lambda size: [_completion(LONG, bad_words=_row(row), max_tokens=32) for row in range(64)]),
    Attack("an answer of 10 MB", 200, lambda size: [_completion(LONG, prompt=[LONG_TOKEN] * LONG_TOKENS, n=100, echo=True)]),
    Attack("400,000 log-probabilities", 200, lambda size: [_completion(LONG, prompt=_prompts(20), echo=True, logprobs=20)]),
    Attack("the same in a stream", 200, lambda size: [_completion(LONG, prompt=_prompts(20), echo=True, logprobs=20, stream=True)]),
    Attack("a body of unknown keys", 413, lambda size: [_unknown((size - 400) // 20, size - 400)]),
    Attack("as many unknown keys as are taken", 200, lambda size: [_unknown(MOST_KEYS, 30 * MOST_KEYS)]),
    Attack("eight grammars as large as a body", 400, lambda size: [_formed(json=_huge_schema(size - 2**20, each)) for each in range(8)]),
    Attack("eight grammars as large as are taken", 200, lambda size: _schemas(8, GRAMMAR_CHARACTERS)),
    Attack("200 grammars", 200, lambda size: _schemas(200, 3000)),
    Attack("a grammar of many rules", 200, lambda size: [_formed(grammar=_lark(GRAMMAR_CHARACTERS // 8))]),
    *(Attack(f"a template's {name}", 400, lambda size, name=name: [_chat(_text(FILTERED), **_filter(name))]) for name in FILTERS),
    Attack("a template without an end", 400, lambda size: [_chat("you", **_filter("endless"))]),
)
