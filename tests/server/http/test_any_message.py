"""Whatever JSON comes to the Responses and the Messages API, it is answered or refused in a few words."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.errors import RequestError
from muxjax.server.anthropic.request import parse_message
from muxjax.server.catalog import Catalog
from muxjax.server.http.body import read_object
from muxjax.server.openai.errors import OURS
from muxjax.server.responses.request import parse_response, read_request
from muxjax.server.responses.store import ResponseStore
from tests.server.http.test_any_body import values
from tests.server.http.test_app import ask
from tests.server.kit import STAMP, served

PATHS = ("/v1/responses", "/v1/responses/input_tokens", "/v1/messages", "/v1/messages/count_tokens")
KINDS = (
    *("message", "function_call", "function_call_output", "reasoning", "item_reference", "input_text", "output_text", "refusal"),
    *("text", "tool_use", "tool_result", "thinking", "redacted_thinking", "image", "function", "custom", "web_search", "json_schema"),
    *("json_object", "auto", "any", "tool", "none", "allowed_tools", "enabled", "disabled"),
)
KEYS = (
    *("type", "role", "content", "text", "name", "arguments", "call_id", "id", "output", "summary", "input", "tool_use_id", "is_error"),
    *("parameters", "input_schema", "description", "strict", "format", "schema", "effort", "mode", "tools", "thinking", "refusal"),
)
parts = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(KINDS) | values, max_size=5)
items = st.recursive(
    parts, lambda inner: st.dictionaries(st.sampled_from(KEYS), st.lists(inner, max_size=2) | inner | values, max_size=4), max_leaves=5
)
roles = st.sampled_from(("user", "assistant", "system", "developer", "tool"))
turns = st.fixed_dictionaries({"role": roles, "content": st.text(max_size=4) | st.lists(items, max_size=3)}) | items
FIELDS = {
    **dict.fromkeys(("input", "messages", "tools", "include", "stop_sequences"), st.lists(turns, max_size=3) | values),
    **dict.fromkeys(
        ("text", "tool_choice", "reasoning", "thinking", "output_config", "output_format", "metadata", "system"), items | values
    ),
    **dict.fromkeys(
        ("instructions", "previous_response_id", "max_output_tokens", "max_tokens", "store", "truncation", "top_logprobs"), values
    ),
    **dict.fromkeys(("stream", "n", "temperature", "prompt", "conversation", "parallel_tool_calls", "stream_options", "logprobs"), values),
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), fields=st.fixed_dictionaries({}, optional=FIELDS), as_given=st.booleans())
def test_no_body_is_our_fault(server, path, fields, as_given):
    good = {"model": "a", "input": "cat", "max_output_tokens": 2, "max_tokens": 2, "messages": [{"role": "user", "content": "cat"}]}
    status, _, content = ask(server, "POST", path, fields if as_given else good | fields)
    assert status in (200, 400, 404), content
    if status != 200:
        assert len(json.loads(content)["error"]["message"].encode()) < 2000
    assert b"internal_error" not in content and OURS.encode() not in content


FORMS = (
    '{"input": [{"role": "user", "content": [DEEP]}]}',
    '{"input": "x", "tools": [{"type": "function", "name": "f", "parameters": DEEP}], "tool_choice": "required"}',
    '{"input": "x", "text": {"format": {"type": "json_schema", "name": "x", "schema": DEEP}}}',
    '{"input": "x", "metadata": DEEP, "unknown": DEEP}',
    '{"max_tokens": 3, "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "f", "input": DEEP}]}]}',
    '{"max_tokens": 3, "messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f", "input_schema": DEEP}]}',
    '{"max_tokens": 3, "messages": [HI], "output_config": {"format": {"type": "json_schema", "schema": DEEP}}}',
)


@pytest.mark.parametrize("form", FORMS)
def test_no_nesting_is_our_fault(form, tokenizer):
    """It is taken where it means nothing, and else refused."""
    catalog, store = Catalog([served(tokenizer, "a")]), ResponseStore(2**20)
    for depth in (*range(1, 1200, 3), 5 * 10**4):
        try:
            body = read_object(
                form.replace("HI", '{"role": "user", "content": "x"}').replace("DEEP", '{"a":' * depth + "1" + "}" * depth).encode()
            )
            if "max_tokens" in form:
                parse_message(body, catalog, STAMP)
            else:
                parse_response(read_request(body, store, STAMP), catalog, STAMP)
        except RequestError as error:
            assert error.status == 400
