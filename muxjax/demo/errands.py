"""Questions that a model answers with a tool: where things are that no text tells. It calls, is told a place, and says it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from muxjax.demo.tales import Split
from muxjax.demo.worlds import World

Message = dict[str, Any]
Json = dict[str, Any]

NAMES = ("find", "locate", "look_up", "where_is", "find_thing", "search")
KEYS = ("thing", "name", "item", "what", "query")
OTHERS = (("add", ("a", "b")), ("say", ("text",)), ("count", ("number",)), ("now", ()))
"""Tools that no question needs."""
SYSTEMS = (
    "You are a helpful assistant.",
    "You help.",
    "Be brief.",
    "You are an agent. Use the tools that you have.",
    "Answer the question. Use a tool if you need one.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A conversation that ends in an answer, and the tools that it offers."""

    messages: tuple[Message, ...]
    tools: tuple[Json, ...]


def errands(world: World, rng: Random, split: Split) -> Iterator[Errand]:
    """Endless errands, each from the question to the answer."""
    while True:
        places = _places(world, rng, split)
        tool, key = rng.choice(NAMES), rng.choice(KEYS)
        yield Errand(messages=(*system(rng), *_asked(tool, key, places, rng)), tools=offered(rng, tool, key))


def unknown(world: World, rng: Random, split: Split) -> Errand:
    """The same question without a tool that could help."""
    (thing, _), *_ = _places(world, rng, split)
    messages = (*system(rng), _user(f"Where is the {thing}?"), {"role": "assistant", "content": "I do not know."})
    return Errand(messages=messages, tools=offered(rng) if rng.random() < 0.3 else ())


def system(rng: Random) -> tuple[Message, ...]:
    """A system message, or none; some have words that mean nothing to the model."""
    if rng.random() < 0.5:
        return ()
    letters = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 3))) for _ in range(rng.randint(1, 8)))
    return ({"role": "system", "content": rng.choice(SYSTEMS) if rng.random() < 0.7 else " ".join(letters).capitalize() + "."},)


def offered(rng: Random, *tool: str) -> tuple[Json, ...]:
    """Descriptions of the tool, a name and a key, if there is one, and at times of others, in any order."""
    others = rng.sample(OTHERS, rng.choice((0, 0, 1, 2)) if tool else rng.randint(1, 2))
    tools = [function(*tool)] if tool else []
    tools += [function(name, *keys) for name, keys in others]
    return tuple(rng.sample(tools, len(tools)))


def function(name: str, *keys: str) -> Json:
    """Description of a tool whose arguments are texts."""
    schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": list(keys)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def answer_of(places: Mapping[str, str]) -> str:
    """What is said of things and their places."""
    said = " and ".join(f"the {thing} is at the {place}" for thing, place in places.items())
    return f"{said[0].upper()}{said[1:]}."


def asked_for(things: Sequence[str]) -> str:
    """The question that wants to know where things are."""
    the = " and ".join(f"the {thing}" for thing in things)
    return f"Where {'is' if len(things) == 1 else 'are'} {the}?"


def _asked(tool: str, key: str, places: Sequence[tuple[str, str]], rng: Random) -> Iterator[Message]:
    yield _user(asked_for([thing for thing, _ in places]))
    calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": tool, "arguments": {key: thing}}}
        for index, (thing, _) in enumerate(places)
    ]
    yield {"role": "assistant", "content": "", "tool_calls": calls}
    quoted = rng.random() < 0.3
    for call, (_, place) in zip(calls, places, strict=True):
        yield {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(place) if quoted else place}
    yield {"role": "assistant", "content": answer_of(dict(places))}


def _places(world: World, rng: Random, split: Split) -> list[tuple[str, str]]:
    """One or two things and where they are."""
    while True:
        things = rng.sample(world.things, rng.choice((1, 1, 2)))
        content = tuple((thing, rng.choice(world.places)) for thing in things)
        if split.holds(("errand", *(word for pair in content for word in pair))):
            return list(content)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
