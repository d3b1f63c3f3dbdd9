"""How answers end: with their usage, and with a mark where a character is cut."""

import pytest

from tests.server.http.test_app import HELLO


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": {"include_usage": True}}])
def test_every_stream_ends_with_usage_where_the_server_says_so(serve, options):
    with serve(http={"enable_force_include_usage": True}) as server:
        chat = list(server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=5, stream=True, **options))
        text = list(server.client.completions.create(model="a", prompt="the", max_tokens=5, stream=True, **options))
    for events in (chat, text):
        assert (events[-1].choices, events[-1].usage.completion_tokens) == ([], 5)
        assert all(event.usage is None for event in events[:-1])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("before", ["", "the "])
def test_an_answer_that_is_cut_within_a_character_ends_with_a_mark(serve, tokenizer, before, count):
    start = tokenizer.encode(before, special=False)
    answer = [*start, *tokenizer.encode("\N{GRINNING FACE}", special=False)[:count]]
    with serve(reply=lambda request, k: answer[k]) as server:
        ask_text, ask_chat = server.client.completions.create, server.client.chat.completions.create
        text: dict = {"model": "a", "prompt": "the", "max_tokens": len(answer)}
        chat: dict = {"model": "a", "messages": HELLO, "max_tokens": len(answer)}
        told = [
            ask_text(**text).choices[0].text,
            ask_text(**text, stop=["xyz"]).choices[0].text,
            "".join(event.choices[0].text for event in ask_text(**text, stream=True)),
            ask_chat(**chat).choices[0].message.content,
            "".join(event.choices[0].delta.content or "" for event in ask_chat(**chat, stream=True)),
        ]
    assert told == [before + "\N{REPLACEMENT CHARACTER}"] * 5
