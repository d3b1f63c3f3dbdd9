"""Whether a backend does what was asked of it: lengths that are kept, and the same words as others."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.errors import ConfigError, first_line

TOKENS, PROMPTS = 16, 4
"""Of each answer, and how many prompts each model is asked."""
_ANSWER_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a model answered to a prompt, greedily; text is empty where the server has no tokenizer."""

    model: str
    prompt: int
    text: str


def samples(urls: Mapping[str, str]) -> list[Sample]:
    """Of each model, after it was seen that prompts are taken as tokens and answers have the length that was asked for.

    Raises:
      ConfigError: a model does not answer, or by another length.
    """
    return [_sample(model, url, number) for model, url in urls.items() for number in range(PROMPTS)]


def disagreements(some: Sequence[Sample], others: Sequence[Sample]) -> int:
    """How many of the answers that both have with words are different."""
    theirs = {(one.model, one.prompt): one.text for one in others if one.text}
    return sum(theirs.get((one.model, one.prompt), one.text) != one.text for one in some if one.text)


def prompt(number: int) -> list[int]:
    """Tokens that every tokenizer has."""
    return [10 + (number * 37 + i * 11) % 80 for i in range(8 + 5 * number)]


def _sample(model: str, url: str, number: int) -> Sample:
    asked = {"model": model, "prompt": prompt(number), "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    answer = _answer(model, url, asked)
    try:
        usage, text = answer["usage"], answer["choices"][0]["text"]
        counted = usage["prompt_tokens"], usage["completion_tokens"]
    except (LookupError, TypeError) as error:
        raise ConfigError(f"{model} at {url} answers in another form: {first_line(error)}", field="backend") from error
    if counted != (len(prompt(number)), TOKENS):
        wanted = f"{len(prompt(number))} tokens in and {TOKENS} out"
        raise ConfigError(f"{model} at {url} counts {counted[0]} and {counted[1]} where {wanted} were asked for", field="backend")
    return Sample(model=model, prompt=number, text=text)


def _answer(model: str, url: str, asked: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(f"{url}/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ConfigError(f"{model} at {url} does not answer: {first_line(error)}", field="backend") from error
