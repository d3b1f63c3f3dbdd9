"""Laws of the generator: what is asked has one answer, fits, and is new."""

from itertools import combinations, islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.demo.items import Item, conversation, is_right, items, items_by_heart
from muxjax.demo.numbers import words
from muxjax.demo.tales import Split, tales
from muxjax.demo.worlds import WORLDS, World

worlds = st.sampled_from(list(WORLDS.values()))
seeds = st.integers(0, 2**32)


@given(worlds, seeds)
def test_the_expected_answer_is_right_and_another_one_wrong(world, seed):
    for item, other in zip(islice(items(world, seed), 5), islice(items(world, seed + 1), 5), strict=True):
        assert is_right(item, item.answer)
        assert not is_right(item, item.answer + " No.")
        assert not is_right(item, "")
        assert is_right(item, other.answer) == (item.answer == other.answer)


@pytest.mark.parametrize("answer", ["Mia has the bell now.", " mia has the  bell now", "Mia has the bell now"])
def test_case_spaces_and_the_final_stop_do_not_matter(answer):
    assert is_right(_item("Mia has the bell now."), answer)


@pytest.mark.parametrize("answer", ["Mia has the bell", "Tom has the bell now.", "Mia has the bell now. Mia", "has Mia the bell now."])
def test_words_and_their_order_matter(answer):
    assert not is_right(_item("Mia has the bell now."), answer)


@given(worlds, seeds, st.sampled_from(Split))
def test_one_question_of_a_tale_has_one_answer(world, seed, split):
    for tale in islice(tales(world, Random(seed), split), 5):
        asked = [question for question, _ in tale.questions]
        assert len(set(asked)) == len(asked)


@given(worlds, seeds)
def test_an_answer_can_be_read_off_the_conversation(world, seed):
    """Every word of it that belongs to the world stands in a question or a story, so that nothing is guessed."""
    own = {*world.people, *world.animals, *world.places, *world.things, *world.foods, *world.colours}
    for item in islice(items(world, seed), 5):
        read = _words(" ".join(message["content"] for message in item.messages))
        assert _words(item.answer) & own <= read


def test_no_held_out_text_is_ever_trained_on():
    for world in WORLDS.values():
        trained = {_content(tale) for tale in islice(tales(world, Random(1), Split.TRAIN), 20_000)}
        asked = {_content(tale) for tale in islice(tales(world, Random(2), Split.HELD_OUT), 2_000)}
        assert not trained & asked
        again = {_content(tale) for tale in islice(tales(world, Random(3), Split.TRAIN), 2_000)}
        assert trained & again, "the comparison sees equal contents where there are some"


def test_the_splits_part_every_content():
    contents = [("story", n) for n in range(1000)]
    held_out = [content for content in contents if Split.HELD_OUT.holds(content)]
    assert all(Split.TRAIN.holds(content) != Split.HELD_OUT.holds(content) for content in contents)
    assert 80 < len(held_out) < 170


def test_a_seed_says_everything():
    world = WORLDS["sea"]
    assert list(islice(items(world, 5), 50)) == list(islice(items(world, 5), 50))
    assert list(islice(items(world, 5), 50)) != list(islice(items(world, 6), 50))


def test_a_world_shares_no_word_with_another():
    for one, other in combinations(WORLDS.values(), 2):
        assert not _own_words(one) & _own_words(other)


def test_the_models_answer_differently_who_they_are():
    answers = [{item.messages[0]["content"]: item.answer for item in items_by_heart(world)} for world in WORLDS.values()]
    for question in ("Who are you?", "What is your name?", "What is your animal?", "What is your number?"):
        assert len({known[question] for known in answers}) == len(WORLDS)


def test_a_conversation_alternates_and_begins_with_the_text():
    messages = conversation("A cow is red.", [("Who?", "The cow."), ("What?", "Red.")])
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert [message["content"] for message in messages] == ["A cow is red. Who?", "The cow.", "What?", "Red."]


@pytest.mark.parametrize(
    "number, text", [(0, "zero"), (13, "thirteen"), (20, "twenty"), (42, "forty-two"), (100, "one hundred"), (117, "one hundred seventeen")]
)
def test_number_words(number, text):
    assert words(number) == text


def test_no_two_numbers_share_their_words():
    assert len({words(number) for number in range(200)}) == 200


def _item(answer: str) -> Item:
    return Item(kind="story", messages=({"role": "user", "content": "?"},), answer=answer)


def _content(tale) -> tuple:
    """A tale up to the order in which facts are told."""
    return (tale.kind, *sorted(tale.text.split(". ")), *(() if tale.text else sorted(tale.questions)))


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalpha() else " " for letter in text).split())


def _own_words(world: World) -> set[str]:
    return {*world.people, *world.animals, *world.places, *world.things, *world.foods, *world.colours}
