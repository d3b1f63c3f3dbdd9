"""Whatever JSON comes in, it is answered or refused in a few words."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.errors import RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.http.body import read_object
from muxjax.server.openai.errors import OURS
from muxjax.server.openai.schema import parse_chat, parse_completion
from tests.server.http.test_app import HELLO, ask
from tests.server.kit import STAMP, served

POSTS = (
    *("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/detokenize"),
    *("/api/chat", "/api/generate", "/api/show"),
)
NAMES = (
    *(
        "model",
        "prompt",
        "messages",
        "tokens",
        "n",
        "max_tokens",
        "min_tokens",
        "max_completion_tokens",
        "seed",
        "stream",
        "stream_options",
    ),
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "best_of"),
    *("stop", "stop_token_ids", "bad_words", "allowed_token_ids", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens"),
    *("echo", "logprobs", "top_logprobs", "prompt_logprobs", "return_token_ids", "truncate_prompt_tokens", "add_special_tokens"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "structured_outputs", "guided_json", "documents"),
    *("options", "format", "images", "think", "system", "raw", "template", "keep_alive", "name"),
    *("add_generation_prompt", "continue_final_message", "chat_template_kwargs", "return_token_strs", "suffix", "functions"),
    *("input", "dimensions", "encoding_format", "priority", "cache_salt", "user"),
)
WORDS = (
    "type",
    "function",
    "name",
    "parameters",
    "json_schema",
    "schema",
    "regex",
    "choice",
    "grammar",
    "json",
    "role",
    "content",
    "tool_calls",
)
near = st.sampled_from(("function", "required", "json_object", "json_schema", "text", "user", "assistant", "object", "start: /a/", "("))
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5) | near
keys = st.text(max_size=5) | st.sampled_from(WORDS)
containers = lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)  # noqa: E731
values = st.recursive(leaves, containers, max_leaves=8)
odd = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
fair = st.fixed_dictionaries(
    {
        "model": st.just("a"),
        "prompt": st.just("cat"),
        "input": st.just("cat"),
        "messages": st.just(HELLO),
        "tokens": st.just([5]),
        "max_tokens": st.just(2),
    }
)

functions = st.fixed_dictionaries(
    {"name": st.just("f") | values}, optional={"parameters": values, "arguments": values, "description": values}
)
calls = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": functions}), max_size=2)
roles = st.sampled_from(("system", "user", "assistant", "tool"))
shaped = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(st.fixed_dictionaries({"role": roles, "content": values}, optional={"tool_calls": calls}), max_size=3),
        "tools": calls,
        "tool_choice": st.sampled_from(("required", "none", "auto")) | st.fixed_dictionaries({"type": near, "function": functions}),
        "response_format": st.fixed_dictionaries(
            {"type": st.just("json_schema") | near}, optional={"json_schema": st.fixed_dictionaries({}, optional={"schema": values})}
        ),
        "structured_outputs": st.dictionaries(st.sampled_from(("json", "regex", "choice", "grammar")), values, min_size=1, max_size=2),
        "logit_bias": st.dictionaries(st.text("0123456789-.e", max_size=4), values, max_size=2),
        "stream_options": st.dictionaries(st.sampled_from(("include_usage", "continuous_usage_stats")), values),
    },
)


FORMS = (
    '{"prompt": "x", "structured_outputs": {"json": DEEP}}',
    '{"prompt": DEEP}',
    '{"prompt": "x", "stop": DEEP, "unknown": DEEP}',
    '{"messages": [{"role": "user", "content": "x", "more": DEEP}], "chat_template_kwargs": DEEP}',
    '{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]}',
    '{"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": DEEP}}]}]}',
)


@pytest.mark.parametrize("form", FORMS)
def test_no_nesting_is_our_fault(form, tokenizer):
    """Python's limit is met in another place for almost every depth."""
    catalog = Catalog([served(tokenizer, "a")])
    parse, outcomes = parse_chat if "messages" in form else parse_completion, set()
    for depth in (*range(1, 1200), 5 * 10**4):  # Python 3.12 parses deeper than 1,200
        try:
            parse(read_object(form.replace("DEEP", '{"a":' * depth + "1" + "}" * depth).encode()), catalog, STAMP)
        except RequestError as error:
            outcomes.add(error.status)
    assert outcomes == {400}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), good=fair, close=shaped, bad=odd)
def test_no_body_is_our_fault(server, path, good, close, bad):
    status, _, content = ask(server, "POST", path, {**good, **bad, **close})
    assert status in (200, 400, 404), content
    assert status == 200 or len(_message(json.loads(content)["error"]).encode()) < 2000
    assert b"internal_error" not in content and OURS.encode() not in content


def _message(error: dict | str) -> str:
    """Of OpenAI's object, or Ollama's text."""
    return error if isinstance(error, str) else error["message"]
