"""Calls as our own grammar demands them: a list, or the arguments of the tool that was named."""

from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.answers.call_reader import CallReader
from muxjax.server.answers.formats.json_list import JSON_LIST
from muxjax.server.answers.formats.named import NamedCall
from tests.server.answers.reading import parts_of, same_at_every_cut

CALLS = '[{"name": "weather", "parameters": {"city": "a}\\"{"}}, {"name": "clock", "parameters": {"a": {}}}]'
NAMES = ("weather", "clock")
READ = (("weather", '{"city": "a}\\"{"}'), ("clock", '{"a": {}}'))


def demanded() -> CallReader:
    return CallReader((JSON_LIST,), NAMES, must_call=True)


def test_calls_are_the_same_cut_at_every_place():
    assert same_at_every_cut(demanded, CALLS) == ("", "", READ)
    assert same_at_every_cut(lambda: NamedCall("f"), '{"a": "}"}') == ("", "", (("f", '{"a": "}"}'),))


@given(cuts=st.lists(st.integers(0, len(CALLS)), max_size=12))
def test_calls_are_the_same_however_their_text_is_cut(cuts):
    assert parts_of(demanded(), CALLS, cuts).calls == READ


def test_a_call_that_is_cut_short_has_what_there_is_of_its_arguments():
    assert parts_of(demanded(), CALLS[:50]).calls == (("weather", CALLS[35:50]),)
    assert parts_of(demanded(), CALLS[:20]).calls == ()
    assert parts_of(NamedCall("f"), '{"a').calls == (("f", '{"a'),)
    assert parts_of(NamedCall("f"), "").calls == (("f", ""),)


def test_tools_have_been_called_when_the_last_call_has_all_its_arguments():
    reader, named = demanded(), NamedCall("f")
    seen = [bool(reader.feed(character)) and reader.has_called for character in CALLS]
    assert [place for place, has_called in enumerate(seen) if has_called] == [CALLS.index("}}, "), CALLS.rindex("}}]")]
    assert [named.feed(text) and named.has_called for text in ('{"a": ', "{}", "}")] == [False, False, True]
