"""Content as the template takes it: one string, parts, or as it was sent."""
# ruff: noqa: E501 (templates are written in one line, as line breaks are part of them)

import json

import pytest

from muxjax.server.text import sandbox
from muxjax.server.text.content_forms import ContentForms, Form, NoContent, read_forms
from muxjax.server.text.template import ChatTemplate

LOOP = (
    "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}"
)
JOINED = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"
PRINTED = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
FIRST = "{% for m in messages %}[{{ m.role }}]{{ m.content[0].text }}{% endfor %}"
MACRO = "{% macro show(c) %}{% for p in c %}{{ p['text'] }}{% endfor %}{% endmacro %}{% for m in messages %}[{{ m.role }}]{{ show(m.content) }}{% endfor %}"
EITHER = "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}{{ m.content | map(attribute='text') | join('+') }}{% endif %}{% endfor %}"
GUARD = (
    "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}{% if not documents %}{{ raise_exception('no') }}{% endif %}"
    + LOOP
)
SYSTEM = (
    "{% if messages[0].role == 'system' %}[system]{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
)
TEMPLATES = {
    "loop": LOOP,
    "joined": JOINED,
    "printed": PRINTED,
    "first": FIRST,
    "macro": MACRO,
    "either": EITHER,
    "guard": GUARD,
    "system": SYSTEM,
}
PARTS = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]


def render(source: str, *messages: dict) -> str:
    return ChatTemplate(source, {}).render(messages, answer=False, extra={"documents": [{"text": "d"}]})


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("content", [PARTS, "one two"], ids=["parts", "a string"])
def test_a_clients_words_are_in_the_prompt(source, content):
    text = render(source, {"role": "user", "content": content})
    assert text == "[user]" + ("one +two" if source is EITHER and content is PARTS else "one two")


def test_roles_may_have_different_forms():
    text = render(SYSTEM, {"role": "system", "content": PARTS}, {"role": "user", "content": "hello"})
    assert text == "[system]one two[user]hello"


def test_a_loop_over_characters_takes_a_string():
    assert (
        render("{% for m in messages %}{% for c in m.content %}{{ c }}.{% endfor %}{% endfor %}", {"role": "user", "content": PARTS[1:]})
        == "t.w.o."
    )


def test_parts_of_nothing_and_empty_texts_are_no_error():
    for source in TEMPLATES.values():
        assert render(source, {"role": "user", "content": ""}, {"role": "assistant", "content": []}).startswith("[user]")


CALLING = {"role": "assistant", "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": {}}}]}
CALLS = "{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}"


@pytest.mark.parametrize(
    "body, text",
    [
        ("{% if 'content' in m %}content{% else %}" + CALLS + "{% endif %}", "f"),
        ("{% if m.content is none %}" + CALLS + "{% else %}{{ 'x' + m.content }}{% endif %}", "f"),
        ("{{ 'x' + m.content }}" + CALLS, "xf"),
        ("{{ m.content }}" + CALLS, "f"),
        ("{% for p in m.content %}{{ p.text }}{% endfor %}" + CALLS, "f"),
    ],
)
def test_a_call_without_content_is_shown(body, text):
    source = "{% for m in messages %}{% if m.role == 'assistant' %}" + body + "{% endif %}{% endfor %}"
    assert render(source, {"role": "user", "content": "hi"}, CALLING) == text


ARGUMENTS = '{"city": "Ulm", "ok": true}'


@pytest.mark.parametrize("sent", [ARGUMENTS, json.loads(ARGUMENTS)], ids=["JSON", "an object"])
@pytest.mark.parametrize(
    "shown, text",
    [
        ("{{ 'x' + f.arguments }}", "x" + ARGUMENTS),
        ("{{ f.arguments }}", ARGUMENTS),
        ("{{ f.arguments | tojson }}", ARGUMENTS),
        ("{% if f.arguments is string %}{{ f.arguments }}{% else %}{{ f.arguments | tojson }}{% endif %}", ARGUMENTS),
        ("{% for name, value in f.arguments | items %}{{ name }}={{ value }};{% endfor %}", "city=Ulm;ok=True;"),
    ],
)
@pytest.mark.parametrize("empty", ["m.content is none", "not m.content", "m.tool_calls"])
def test_arguments_are_shown_as_the_template_was_written_for(shown, text, sent, empty):
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' and " + empty + " %}{% for c in m.tool_calls %}{% set f = c.function %}"
        "{{ f.name }}(" + shown + "){% endfor %}{% endif %}{% endfor %}"
    )
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": sent}}
    assert render(source, {"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}) == f"f({text})"


WANTS = {
    "a system message": ("{% if messages[0].role != 'system' %}{{ raise_exception('x') }}{% endif %}" + LOOP, "[system]S[user]one two"),
    "a system message that is text": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ '[system]' + m.content }}{% else %}"
        "[{{ m.role }}]{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}",
        "[system]S[user]one two",
    ),
    "a second message": ("{{ messages[1].role }}" + LOOP, "user[system]S[user]one two"),
    "what only a request has": ("{{ 1 // wanted }}" + LOOP, "1[system]S[user]one two"),
}


@pytest.mark.parametrize("source, text", WANTS.values(), ids=WANTS)
def test_words_are_found_where_a_template_wants_more_than_one_message(source, text):
    messages = [{"role": "system", "content": PARTS and [{"type": "text", "text": "S"}]}, {"role": "user", "content": PARTS}]
    assert ChatTemplate(source, {}).render(messages, answer=False, extra={"wanted": 1}) == text


def test_a_template_that_shows_nothing_gets_strings():
    assert read_forms(lambda messages, more: None) == ContentForms(roles={}, no_content=NoContent.EMPTY)
    assert read_forms(lambda messages, more: "") == ContentForms(roles={}, no_content=NoContent.MISSING)


def test_forms_that_are_the_same_are_not_confused():
    forms = ContentForms(roles={"user": Form.PARTS, "tool": Form.TEXT})
    assert forms.message({"role": "user", "content": "a", "name": "n"}) == {
        "role": "user",
        "content": [{"type": "text", "text": "a"}],
        "name": "n",
    }
    assert forms.message({"role": "tool", "content": PARTS})["content"] == "one two"
    assert forms.message({"role": "assistant", "content": "a"})["content"] == [{"type": "text", "text": "a"}]


def test_a_template_without_an_end_is_looked_at_once(monkeypatch):
    renders = []

    def late(self, *_):
        renders.append(self)
        raise sandbox.OutOfTime("late")

    monkeypatch.setattr(sandbox.Sandbox, "render", late)
    ChatTemplate("x", {})
    assert len(renders) == 1


MISTRAL = (
    "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{% if c.id is not defined or c.id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}[{{ c.id }}]{% endfor %}"
    "{% elif m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}{{ raise_exception('9!') }}{% endif %}({{ m.tool_call_id }})"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def called(id: str) -> list[dict]:
    call = {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "", "tool_call_id": id},
    ]


def test_ids_of_calls_are_shortened_for_a_template_that_takes_no_others():
    text = render(MISTRAL, *called("call_0123456789abcdef"))
    call, result = text.removeprefix("u[").removesuffix(")").split("](")
    assert call == result and len(call) == 9 and call.isalnum()
    assert render(MISTRAL, *called("A23456789")) == "u[A23456789](A23456789)"


def test_ids_of_calls_stay_as_they_are_for_any_other_template():
    source = MISTRAL.replace("length != 9", "length == 0")
    assert render(source, *called("call_0123456789abcdef")) == "u[call_0123456789abcdef](call_0123456789abcdef)"
