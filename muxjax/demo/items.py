"""Questions in conversations, and whether an answer is right."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from muxjax.demo.errands import errands
from muxjax.demo.tales import Question, Split, known_by_heart, tales
from muxjax.demo.worlds import World

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question in its conversation, its one right answer, and the tools that are offered with it."""

    kind: str
    messages: tuple[Message, ...]
    answer: str
    tools: tuple[dict[str, Any], ...] = ()


def is_right(item: Item, answer: str) -> bool:
    """The answer is the expected one, up to case, spaces and the final stop."""
    return _plain(answer) == _plain(item.answer)


def items(world: World, seed: int) -> Iterator[Item]:
    """Endless questions that training never showed, each after none to two others of the same tale."""
    rng = Random(seed)
    for tale in tales(world, rng, Split.HELD_OUT):
        questions = rng.sample(tale.questions, rng.randint(1, 3))
        messages = conversation(tale.text, questions)
        yield Item(kind=tale.kind, messages=messages[:-1], answer=messages[-1]["content"])


def items_with_tools(world: World, seed: int) -> Iterator[Item]:
    """Endless questions of errands that training never showed: what is to be called, and then what is to be said."""
    for errand in errands(world, Random(seed), Split.HELD_OUT):
        asked = next(place for place, message in enumerate(errand.messages) if message.get("tool_calls"))
        calls = " ".join(json.dumps(call["function"]) for call in errand.messages[asked]["tool_calls"])
        yield Item(kind="call", messages=errand.messages[:asked], answer=calls, tools=errand.tools)
        yield Item(kind="result", messages=errand.messages[:-1], answer=errand.messages[-1]["content"], tools=errand.tools)


def items_by_heart(world: World) -> tuple[Item, ...]:
    """Every question that the model answers without being told, such as who it is."""
    return tuple(
        Item(kind="by heart", messages=({"role": "user", "content": question},), answer=answer)
        for question, answer in known_by_heart(world)
    )


def conversation(text: str, questions: Sequence[Question]) -> tuple[Message, ...]:
    """The text with the first question, then question by question, all answered."""
    messages: list[Message] = []
    for question, answer in questions:
        asked = question if messages else f"{text} {question}".strip()
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return tuple(messages)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".")
