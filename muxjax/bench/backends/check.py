"""Whether a backend does what was asked of it: lengths that are kept, and the same words as others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from muxjax.bench.backends.asking import answered
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


class Disagreement(NamedTuple):
    """How many answers differ, of those that both have with words."""

    differ: int
    compared: int


def samples(urls: Mapping[str, str]) -> list[Sample]:
    """Of each model, after it was seen that prompts are taken as tokens and answers have the length that was asked for.

    Raises:
      ConfigError: a model does not answer, or by another length.
    """
    return [_sample(model, url, number) for model, url in urls.items() for number in range(PROMPTS)]


def disagreement(some: Sequence[Sample], others: Sequence[Sample]) -> Disagreement:
    """Of answers to the same prompts of the same models."""
    theirs = {(one.model, one.prompt): one.text for one in others if one.text}
    pairs = [(one.text, theirs[key]) for one in some if one.text and (key := (one.model, one.prompt)) in theirs]
    return Disagreement(sum(ours != other for ours, other in pairs), len(pairs))


def prompt(number: int) -> list[int]:
    """Tokens that every tokenizer has."""
    return [10 + (number * 37 + i * 11) % 80 for i in range(8 + 5 * number)]


def _sample(model: str, url: str, number: int) -> Sample:
    asked = {"model": model, "prompt": prompt(number), "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    answer = answered(f"{url}/completions", asked, within_s=_ANSWER_S)
    try:
        usage, text = answer["usage"], answer["choices"][0].get("text")
        counted = usage["prompt_tokens"], usage["completion_tokens"]
    except (LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{model} at {url} answers in another form: {first_line(error)}", field="backend") from error
    if counted != (len(prompt(number)), TOKENS):
        wanted = f"{len(prompt(number))} tokens in and {TOKENS} out"
        raise ConfigError(f"{model} at {url} counts {counted[0]} and {counted[1]} where {wanted} were asked for", field="backend")
    return Sample(model=model, prompt=number, text=text or "")
