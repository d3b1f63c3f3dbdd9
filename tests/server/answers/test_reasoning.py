"""Reasoning told from what is said, wherever an answer is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.answers.call_reader import CallReader
from muxjax.server.answers.form import PlainText
from muxjax.server.answers.formats.hermes import HERMES
from muxjax.server.answers.reasoning import REASONING, ReasoningReader, ReasoningTokens
from tests.server.answers.reading import parts_of, same_at_every_cut

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
ANSWERS = {
    "opened by the model": (False, "<think>\nHm, so.\n</think>\n\nYes.\n", "Hm, so.", "Yes.\n"),
    "opened by the prompt": (True, "\nHm,\n\nso.\n</think>\n\nYes.", "Hm,\n\nso.", "Yes."),
    "opened by both": (True, "<think>\nHm.\n</think>Yes.", "Hm.", "Yes."),
    "none": (False, "Yes, <think> is a mark.", "", "Yes, <think> is a mark."),
    "empty": (False, "<think>\n\n</think>\n\nYes.", "", "Yes."),
    "without an end": (True, "Hm, so. </thi", "Hm, so. </thi", ""),
    "nothing behind it": (False, "<think>a</think>\n", "a", ""),
    "half a mark": (False, "<thin", "", "<thin"),
    "blanks alone": (False, " \n", "", " \n"),
    "blanks before": (False, "  Yes.", "", "  Yes."),
}


@pytest.mark.parametrize(("opened", "answer", "reasoning", "text"), ANSWERS.values(), ids=ANSWERS)
def test_reasoning_and_text_are_the_same_at_every_cut(opened, answer, reasoning, text):
    read = same_at_every_cut(lambda: ReasoningReader(REASONING["qwen3"], PlainText(), opened=opened), answer)
    assert read == (text, reasoning, ())


def test_a_call_within_reasoning_is_none_and_one_behind_it_is():
    answer = f"<think>Call {CALL}?</think>\nI do.\n{CALL}"
    read = same_at_every_cut(lambda: ReasoningReader(REASONING["qwen3"], CallReader((HERMES,), ("f",)), opened=False), answer)
    assert read == ("I do.", f"Call {CALL}?", (("f", '{"a": 1}'),))


def test_marks_may_be_other_ones():
    reader = ReasoningReader(REASONING["mistral"], PlainText(), opened=False)
    assert parts_of(reader, "[THINK]Hm.[/THINK]Yes.") == ("Yes.", "Hm.", ())


@given(text=st.text("<think>/ \na", max_size=40), opened=st.booleans())
def test_any_text_has_parts_that_do_not_depend_on_its_cuts(text, opened):
    whole, cut = (parts_of(ReasoningReader(REASONING["qwen3"], PlainText(), opened=opened), text, cuts) for cuts in ((), range(len(text))))
    assert whole == cut


def test_a_prompt_opens_reasoning_with_its_last_word():
    qwen3, r1 = REASONING["qwen3"], REASONING["deepseek_r1"]
    assert qwen3.is_opened("<|im_start|>assistant\n<think>\n") and not qwen3.is_opened("<think>\n\n</think>\n\n")
    assert r1.is_opened("<|Assistant|>") and not r1.is_opened("I say", continued=True)
    assert qwen3.is_opened("<think>\n", continued=True)


def test_tokens_of_reasoning_are_counted_with_its_marks():
    for opened, tokens, count in ((False, [5, 1, 1, 6, 1], 4), (True, [1, 6, 1, 1], 2), (False, [1, 1], 0), (True, [1, 1], 2)):
        tally = ReasoningTokens(5, 6, opened=opened)
        tally.add(tokens[:2])
        tally.add(tokens[2:])
        assert tally.count == count
