"""Events of a stream come when there is something to tell."""

import threading

import pytest

from muxjax.types import Request

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
def test_a_first_token_is_told_at_once_though_its_character_is_not_whole(serve, tokenizer, chat):
    smile, told = tokenizer.encode("😀", special=False), threading.Event()

    def reply(request: Request, k: int) -> int:
        assert k == 0 or told.wait(30), "the first token was not told"
        return smile[k % len(smile)]

    with serve(reply=reply) as server:
        asked = server.client.chat.completions if chat else server.client.completions
        events = asked.create(model="a", **({"messages": HELLO} if chat else {"prompt": "hi"}), max_tokens=8, stream=True)
        first = next(events)
        told.set()
        texts = [choice.delta.content if chat else choice.text for event in (first, *events) for choice in event.choices]
    assert not texts[0]
    assert "".join(text or "" for text in texts) == "😀😀"
