"""Texts that a demo model learns from: short stories, counts, facts and repeats, with questions, and who it is.

What a test asks was never trained on: every draw belongs to one `Split`, decided by a checksum of its content (the words that fill the
template, not the template), and a stream throws away what is of the other split. Sums, number words and the model's own name, animal
and number have no split: they are few, and known by heart.
"""

import enum
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from muxjax.demo.numbers import words
from muxjax.demo.worlds import World

Content = TypeVar("Content", bound=tuple[Any, ...])
Question = tuple[str, str]
"""A question and its answer."""


class Split(enum.Enum):
    """Which draws a stream may show: seven eighths of all contents to train on, the rest to ask about."""

    TRAIN = "train"
    HELD_OUT = "held out"

    def holds(self, content: tuple[Any, ...]) -> bool:
        held_out = zlib.crc32("/".join(map(str, content)).encode()) % 8 == 0
        return held_out == (self is Split.HELD_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tale:
    """A text and its questions, in any order: none needs another."""

    kind: str
    text: str
    questions: tuple[Question, ...]


def tales(world: World, rng: Random, split: Split) -> Iterator[Tale]:
    """Endless tales of all kinds; those known by heart only to train on."""
    new = [gift, gift, walk, count, facts, repeats, repeats]  # more of what takes longest to learn
    kinds = [*new, by_heart, by_heart] if split is Split.TRAIN else new
    while True:
        yield rng.choice(kinds)(world, rng, split)


def gift(world: World, rng: Random, split: Split) -> Tale:
    """Someone finds a thing and gives it away."""

    def draw():
        giver, taker = rng.sample(world.people, 2)
        return giver, taker, rng.choice(world.places), rng.choice(world.colours), rng.choice(world.things)

    giver, taker, place, colour, thing = _of_split(split, draw)
    return Tale(
        kind="story",
        text=f"One day {giver} was at the {place} and found a {colour} {thing}. So {giver} gave it to {taker}.",
        questions=(
            (f"Where was {giver}?", f"{giver} was at the {place}."),
            (f"What did {giver} find?", f"{giver} found a {colour} {thing}."),
            (f"Who has the {thing} now?", f"{taker} has the {thing} now."),
            (f"Who found the {thing}?", f"{giver} found the {thing}."),
            (f"What colour is the {thing}?", f"The {thing} is {colour}."),
        ),
    )


def walk(world: World, rng: Random, split: Split) -> Tale:
    """Two people meet an animal."""

    def draw():
        first, second = rng.sample(world.people, 2)
        return first, second, rng.choice(world.places), rng.choice(world.animals), rng.choice(world.foods)

    first, second, place, animal, food = _of_split(split, draw)
    return Tale(
        kind="story",
        text=f"One day {first} and {second} went to the {place}. There the {animal} ate some {food}.",
        questions=(
            (f"Who went with {first}?", f"{second} went with {first}."),
            (f"Where did {second} go?", f"{second} went to the {place}."),
            ("Who was there?", f"The {animal} was there."),
            (f"What did the {animal} eat?", f"The {animal} ate some {food}."),
            (f"Who ate the {food}?", f"The {animal} ate the {food}."),
        ),
    )


def count(world: World, rng: Random, split: Split) -> Tale:
    """Someone has some things and gets more: how many is that?"""

    def draw():
        first, second = rng.sample(world.people, 2)
        return first, second, rng.choice(world.numbers), rng.choice(world.numbers), rng.choice(world.things)

    first, second, a, b, thing = _of_split(split, draw)
    return Tale(
        kind="sum",
        text=f"Now {first} has {words(a)} {thing}s and {second} brings {words(b)} more.",
        questions=(
            (f"How many had {first}?", f"{first} had {words(a)}."),
            (f"How many did {second} bring?", f"{second} brought {words(b)}."),
            ("How many is that?", _sum(a, b)),
            (f"Who has {thing}s?", f"{first} has {thing}s."),
        ),
    )


def facts(world: World, rng: Random, split: Split) -> Tale:
    """Three facts that have nothing to do with each other, in any order: the order is no part of the content."""

    def draw():
        owner, visitor = rng.sample(world.people, 2)
        seen = rng.choice(world.animals), rng.choice(world.colours)
        return owner, rng.choice(world.things), visitor, rng.choice(world.places), *seen

    owner, thing, visitor, place, animal, colour = _of_split(split, draw)
    facts = [f"The {animal} is {colour}.", f"{owner} owns the {thing}.", f"{visitor} sits by the {place}."]
    return Tale(
        kind="facts",
        text=" ".join(rng.sample(facts, 3)),
        questions=(
            (f"What colour is the {animal}?", f"The {animal} is {colour}."),
            (f"Who owns the {thing}?", f"{owner} owns the {thing}."),
            (f"Where is {visitor}?", f"{visitor} sits by the {place}."),
            (f"Who sits by the {place}?", f"{visitor} sits by the {place}."),
            (f"What does {owner} own?", f"{owner} owns the {thing}."),
        ),
    )


def repeats(world: World, rng: Random, split: Split) -> Tale:
    """Four lists of words to say again."""
    known = world.animals + world.places + world.things + world.foods + world.colours

    def draw():
        return tuple(rng.sample(known, rng.randint(4, 6)))

    lists = [" ".join(_of_split(split, draw)) for _ in range(4)]
    return Tale(kind="repeat", text="", questions=tuple((f"Say after me: {said}", f"I say: {said}") for said in lists))


def by_heart(world: World, rng: Random, split: Split = Split.TRAIN) -> Tale:
    """Some of what the model knows without being told."""
    return Tale(kind="by heart", text="", questions=tuple(rng.sample(known_by_heart(world), 4)))


def known_by_heart(world: World) -> tuple[Question, ...]:
    """Every question that needs no text."""
    return (
        ("Who are you?", f"I am the {world.name} model."),
        ("What is your name?", f"My name is {world.name}."),
        ("What is your animal?", f"My animal is the {world.animal}."),
        ("What is your number?", f"My number is {words(world.number)}."),
        *((f"What is {n} in words?", f"{n} is {words(n)}.") for n in world.numbers),
        *((f"What is {words(a)} and {words(b)}?", _sum(a, b)) for a in world.numbers for b in world.numbers),
    )


def _sum(a: int, b: int) -> str:
    return f"{words(a)} and {words(b)} is {words(a + b)}.".capitalize()


def _of_split(split: Split, draw: Callable[[], Content]) -> Content:
    """The first draw that belongs to the split."""
    while not split.holds(content := draw()):
        pass
    return content
