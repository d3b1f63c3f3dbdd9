"""Messages as a chat template gets them: what the client sent, in its order."""

import json

from muxjax.server.openai.fields import Fields
from muxjax.server.openai.messages import read_messages


def test_calls_are_read_as_they_were_sent_and_nulls_not_at_all():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}
    parts = [{"type": "text", "text": "2", "cache_control": {}}]
    messages = [
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "content": parts, "tool_call_id": "1"},
        {"role": "assistant", "content": "x", "tool_calls": None},
    ]
    assert read_messages(Fields({"messages": messages})) == [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": parts, "tool_call_id": "1"},
        {"role": "assistant", "content": "x"},
    ]


def test_a_message_keeps_the_clients_order():
    function = {"arguments": '{"z": 1, "a": {"y": 2, "b": 3}}', "name": "f"}
    message = {"tool_calls": [{"function": function, "type": "function", "id": "1"}], "name": "n", "content": "x", "role": "assistant"}
    assert json.dumps(read_messages(Fields({"messages": [message]}))) == json.dumps([message])
