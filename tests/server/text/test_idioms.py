"""Prompts against transformers' `apply_chat_template`: as goldens, and live where transformers is installed."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import pytest

from muxjax.errors import RequestError
from muxjax.server.openai.fields import Fields
from muxjax.server.openai.messages import read_messages
from muxjax.server.text import environment
from muxjax.server.text.template import ChatTemplate
from tests.server.text.idioms import IDIOMS, SPECIALS, Idiom

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "templates.json").read_text())["prompts"]
each_idiom = pytest.mark.parametrize("name", IDIOMS)


class Then(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 7, 4, 15, 30, tzinfo=tz)


@pytest.fixture(autouse=True)
def a_day_that_does_not_change(monkeypatch):
    monkeypatch.setattr(environment, "datetime", Then)


def render(idiom: Idiom) -> str | None:
    """None where the messages are refused; they come as a client's JSON does."""
    messages = read_messages(Fields(json.loads(json.dumps({"messages": idiom.messages}))))
    try:
        return ChatTemplate(idiom.template, SPECIALS).render(
            messages, answer=idiom.answer, resume=idiom.resume, tools=idiom.tools, extra=idiom.extra
        )
    except RequestError:
        return None


@each_idiom
def test_a_prompt_is_the_one_that_transformers_makes(name):
    assert render(IDIOMS[name]) == GOLDENS[name]


@each_idiom
def test_the_golden_is_what_transformers_makes_today(name):
    pytest.importorskip("transformers")
    from tests.server.text.transformers_templates import render as theirs

    assert theirs(IDIOMS[name]) == GOLDENS[name]


def test_every_idiom_has_a_golden_and_few_are_refused():
    assert list(GOLDENS) == list(IDIOMS)
    refused = {name for name, prompt in GOLDENS.items() if prompt is None}
    assert refused == {"roles that do not alternate", "private namespace", "a continued answer that is not shown", "a list that is changed"}


@pytest.mark.parametrize(
    "name, change",
    [
        ("tools as they were sent", {"tools": [dict(sorted(tool.items())) for tool in IDIOMS["tools as they were sent"].tools]}),
        (
            "blocks on lines of their own",
            {"template": IDIOMS["blocks on lines of their own"].template.replace("{% if", "{%+ if")},
        ),
        ("chatml", {"answer": False}),
    ],
)
def test_a_small_difference_would_be_noticed(name, change):
    assert render(dataclasses.replace(IDIOMS[name], **change)) != GOLDENS[name]
