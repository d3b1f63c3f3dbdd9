"""Calls as models write them, read out of their answers wherever these are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.answers.call_reader import CallReader
from muxjax.server.answers.formats.known import PARSERS
from tests.server.answers.reading import parts_of, same_at_every_cut

NAMES = ("get_weather", "get-time", "search")
ROME = '{"city": "Rome", "days": 3}'
HARD = '{"q": "a \\"}{\\" [b] </tool_call>", "in": {"list": [1, {"x": "é🙂"}], "none": null}}'

ANSWERS = {
    "hermes, one call": (
        "hermes",
        f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>',
        "",
        [("get_weather", ROME)],
    ),
    "hermes, words and two calls": (
        "hermes",
        f'I\'ll look.\n\n<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>\n<tool_call>\n'
        f'{{"name": "search", "arguments": {HARD}}}\n</tool_call>',
        "I'll look.",
        [("get_weather", ROME), ("search", HARD)],
    ),
    "hermes on one line": (
        "hermes",
        '<tool_call>{"name": "get-time", "arguments": {}}</tool_call> So late.',
        " So late.",
        [("get-time", "{}")],
    ),
    "hermes without the last mark": (
        "hermes",
        f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n',
        "",
        [("get_weather", ROME)],
    ),
    "hermes cut in the last mark": ("hermes", '<tool_call>{"name": "get-time", "arguments": {}}\n</tool_', "", [("get-time", "{}")]),
    "hermes without a call": ("hermes", "A <tool is no <tool_cal, it is < 5.\n", "A <tool is no <tool_cal, it is < 5.\n", []),
    "llama, bare": ("llama3_json", f'{{"name": "get_weather", "parameters": {ROME}}}', "", [("get_weather", ROME)]),
    "llama, several": (
        "llama3_json",
        f'{{"name": "get_weather", "parameters": {ROME}}}; {{"name": "search", "parameters": {HARD}}}',
        "",
        [("get_weather", ROME), ("search", HARD)],
    ),
    "llama, behind its mark": (
        "llama3_json",
        f'<|python_tag|>{{"name": "get_weather", "parameters": {ROME}}};{{"name": "get-time", "parameters": {{}}}}',
        "",
        [("get_weather", ROME), ("get-time", "{}")],
    ),
    "llama, words first": (
        "llama3_json",
        f'Let me see. <|python_tag|>{{"name": "search", "parameters": {HARD}}}',
        "Let me see.",
        [("search", HARD)],
    ),
    "llama, other JSON": ("llama3_json", '{"name": "Rome", "parameters": [1]}', '{"name": "Rome", "parameters": [1]}', []),
    "mistral, a list": (
        "mistral",
        f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {ROME}}}, {{"name": "search", "arguments": {HARD}}}]',
        "",
        [("get_weather", ROME), ("search", HARD)],
    ),
    "mistral, names and arguments": (
        "mistral",
        f"Yes.[TOOL_CALLS]get_weather[ARGS]{ROME}[TOOL_CALLS]search[ARGS]{HARD}",
        "Yes.",
        [("get_weather", ROME), ("search", HARD)],
    ),
    "mistral with an id": ("mistral", f"[TOOL_CALLS]get_weather[CALL_ID]a1B2c3D4e[ARGS]{ROME}", "", [("get_weather", ROME)]),
    "pythonic": (
        "pythonic",
        '[get_weather(city="Rome", days=3), get-time(), search(q=\'a) ]"\', deep={"x": [True, None, (1, -2.5)]}, json=[true, null])]',
        "",
        [
            ("get_weather", ROME),
            ("get-time", "{}"),
            ("search", '{"q": "a) ]\\"", "deep": {"x": [true, null, [1, -2.5]]}, "json": [true, null]}'),
        ],
    ),
    "pythonic, behind its mark": ("pythonic", "Yes. <|python_start|>[get-time()]", "Yes.", [("get-time", "{}")]),
    "pythonic, a list of no calls": ("pythonic", "[search] or [1, 2](x)", "[search] or [1, 2](x)", []),
}


def reader(parser: str, template: str = "") -> CallReader:
    return CallReader(PARSERS[parser](template), NAMES)


@pytest.mark.parametrize(("parser", "answer", "text", "calls"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_has_the_same_parts_wherever_it_is_cut(parser, answer, text, calls):
    assert same_at_every_cut(lambda: reader(parser), answer) == (text, "", tuple(calls))


@pytest.mark.parametrize(("parser", "answer", "text", "calls"), ANSWERS.values(), ids=ANSWERS)
@given(data=st.data())
def test_an_answer_has_the_same_parts_however_often_it_is_cut(parser, answer, text, calls, data):
    cuts = data.draw(st.lists(st.integers(0, len(answer)), max_size=20))
    assert parts_of(reader(parser), answer, cuts) == (text, "", tuple(calls))


@pytest.mark.parametrize(("parser", "answer", "text", "calls"), [one for one in ANSWERS.values() if one[3]])
def test_tools_have_been_called_when_the_last_call_is_whole(parser, answer, text, calls):
    whole, cut = reader(parser), reader(parser)
    parts_of(whole, answer)
    parts_of(cut, answer[: answer.index("(" if parser == "pythonic" else "{", answer.index(calls[0][0])) + 1])
    assert (whole.has_called, cut.has_called) == (True, False)


@pytest.mark.parametrize(
    ("written", "meant"),
    [(r"a\/b\\/c", r"a/b\/c"), (r"\ud83d\ude42 \u00e9", "🙂 é"), (r"half \ud83d", "half \ufffd"), (r"\n\"\\", '\n"\\')],
)
def test_text_of_python_may_be_escaped_as_in_json(written, meant):
    """The grammar has it written as JSON."""
    ((_, arguments),) = same_at_every_cut(lambda: reader("pythonic"), f'[search(q="{written}", in={{"{written}": 1}})]').calls
    assert json.loads(arguments) == {"q": meant, "in": {meant: 1}}


def test_arguments_of_python_may_have_names_that_python_has_not():
    """Schemas have them, and the grammar leads to them."""
    ((_, arguments),) = same_at_every_cut(
        lambda: reader("pythonic"), '[search(from="a, b", start-date=[1, 2], a b={"in": 1}, class=true,)]'
    ).calls
    assert json.loads(arguments) == {"from": "a, b", "start-date": [1, 2], "a b": {"in": 1}, "class": True}


MALFORMED = {
    "an unknown function": ("hermes", '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>'),
    "arguments that are no object": ("hermes", '<tool_call>\n{"name": "search", "arguments": [1]}\n</tool_call>'),
    "no JSON": ("hermes", "<tool_call>\nsearch(1)\n</tool_call>"),
    "a mark alone": ("hermes", "<tool_call>"),
    "a mark and half a head": ("hermes", '<tool_call>\n{"name": "sea'),
    "code behind llama's mark": ("llama3_json", "<|python_tag|>search.call(q=1)"),
    "a function without arguments": ("llama3_json", '{"name": "search"}'),
    "half a head": ("llama3_json", '{"name": "search", "para'),
    "nothing to call": ("mistral", "[TOOL_CALLS] []"),
    "an unknown name": ("mistral", "[TOOL_CALLS]other[ARGS]{}"),
    "arguments by place": ("pythonic", "[search(1)]"),
    "names and not literals": ("pythonic", "[search(q=other)]"),
    "a call within a call": ("pythonic", "[search(q=search(q=1))]"),
    "more arguments than there are": ("pythonic", "[search(**{'q': 1})]"),
    "a number that JSON has not": ("pythonic", "[search(q=1e999)]"),
    "a number without an end": ("pythonic", f"[search(q={'9' * 5000})]"),
    "brackets without an end": ("pythonic", "[search(q=" + "[" * 3000 + "]" * 3000 + ")]"),
    "a set": ("pythonic", "[search(q={1})]"),
    "half a call": ("pythonic", "[search(q='"),
}


@pytest.mark.parametrize(("parser", "answer"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_call_after_all_is_text(parser, answer):
    places = range(0, len(answer), max(1, len(answer) // 50))
    for cuts in [[], *([place] for place in places)]:
        assert parts_of(reader(parser), answer, cuts) == (answer, "", ())


def test_a_call_goes_on_behind_text_that_only_looks_like_one():
    answer = '<tool_call> is the mark.\n<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call>'
    assert same_at_every_cut(lambda: reader("hermes"), answer) == ("<tool_call> is the mark.", "", (("search", "{}"),))


def test_arguments_come_as_they_are_written():
    told = reader("hermes")
    pieces = [told.feed(text) for text in ('<tool_call>\n{"name": "search", "argu', 'ments": {"q": "a', 'b"}}\n</tool_call>')]
    assert pieces == [[], [(0, "search", ""), (0, None, '{"q": "a')], [(0, None, 'b"}')]]


_TEXTS = st.text("<>tool_call/[]{}()\"':,; \nTOOLCALLSARGSpython_tag|name=arguments1.", max_size=80)
_MARKS = ("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", '{"name": "search", "arguments": ', "[search(", ")]")
_PIECES = st.lists(st.sampled_from((*_MARKS, "{", "}")) | _TEXTS, max_size=12)


@pytest.mark.parametrize("parser", PARSERS)
@given(pieces=_PIECES)
def test_any_text_has_parts_that_do_not_depend_on_its_cuts(parser, pieces):
    text = "".join(pieces)
    whole = parts_of(reader(parser), text)
    assert parts_of(reader(parser), text, range(len(text))) == whole
    for call in whole.calls if parser == "pythonic" else ():
        assert isinstance(json.loads(call.arguments), dict)
