"""Long answers are made beside the event loop, in slices, and are what one call of the encoder would make."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.http import answering
from muxjax.server.http.body import json_response
from muxjax.server.http.long_json import json_body
from muxjax.server.strict_json import encode
from tests.server.http.test_app import ask

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=70) | st.dictionaries(st.sampled_from(["choices", "a", "é"]), inner),
    max_leaves=90,
)


@given(st.dictionaries(st.sampled_from(["choices", "usage", "b"]), VALUES))
def test_slices_together_are_the_bytes_of_one_call(value):
    assert json_body(value) == encode(value).encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_know_is_null_in_any_slice(value):
    assert json.loads(json_body({"choices": [{"logprobs": [0.5] * 100 + [value]}]})) == {"choices": [{"logprobs": [0.5] * 100 + [None]}]}


@pytest.mark.parametrize(("max_tokens", "thread"), [(5, "muxjax-loop"), (80, "muxjax-large")])
def test_a_long_answer_is_made_beside_the_event_loop(server, monkeypatch, max_tokens, thread):
    threads = []
    for make in (json_body, json_response):

        def watched(answer, make=make):
            threads.append(threading.current_thread().name)
            return make(answer)

        monkeypatch.setattr(answering, make.__name__, watched)
    body = {"model": "a", "prompt": "the cat", "max_tokens": max_tokens, "n": 20, "return_token_ids": True, "ignore_eos": True}
    status, _, content = ask(server, "POST", "/v1/completions", body)
    assert status == 200
    assert json.loads(content)["usage"]["completion_tokens"] == 20 * max_tokens
    assert [name.rpartition("_")[0] or name for name in threads] == [thread]
