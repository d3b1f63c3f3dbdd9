"""Data sets of prompts: ShareGPT's conversations, or plain JSON lines.

[{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}]     one JSON
{"prompt": "...", "output_tokens": 60}                                                       or lines: text, or tokens
{"messages": [{"role": "user", "content": "..."}], "max_tokens": 60}                          or a chat
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from muxjax.bench.prompts import LONGEST, Text, about_tokens
from muxjax.errors import ConfigError, require
from muxjax.whole_file import read_whole
from muxjax.workload.files import Line, json_lines

MOST_BYTES = 2**31
_LENGTHS = ("output_tokens", "max_tokens", "max_completion_tokens")


class _Turn(msgspec.Struct):
    speaker: str = msgspec.field(name="from", default="")
    value: str = ""


class _Conversation(msgspec.Struct):
    conversations: list[_Turn] = msgspec.field(default_factory=list)


def read(path: Path, output_tokens: int | None = None) -> list[Text]:
    """The prompts of a file in its order.

    Args:
      output_tokens: of every answer, in place of what the file says.
    Raises:
      ConfigError: the file cannot be read, a line is no prompt or tells no length, or there are none.
    """
    try:
        with path.open("rb") as file:
            first = file.read(4096).lstrip()[:1]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", field="dataset") from error
    texts = list(_share_gpt(path, output_tokens) if first == b"[" else _plain(path, output_tokens))
    require(bool(texts), "dataset", str(path), "a file with at least one prompt")
    return texts


def _share_gpt(path: Path, output_tokens: int | None) -> Iterator[Text]:
    """What a person asks first, and as many tokens as the reply has; conversations without both are left out."""
    try:
        found = msgspec.json.decode(read_whole(path, most_bytes=MOST_BYTES, field="dataset"), type=list[_Conversation])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"{path}: must be a list of conversations, as ShareGPT has them: {error}", field="dataset") from None
    for one in found:
        if len(one.conversations) < 2 or one.conversations[0].speaker not in ("human", "user"):
            continue
        question, reply = one.conversations[:2]
        if question.value and reply.value:
            yield Text(prompt=question.value, output_tokens=output_tokens or about_tokens(reply.value))


def _plain(path: Path, output_tokens: int | None) -> Iterator[Text]:
    for line, record in json_lines(path):
        prompt = _messages(line, record["messages"]) if "messages" in record else _prompt(line, record.get("prompt"))
        yield Text(prompt=prompt, output_tokens=output_tokens or _length(line, record))


def _length(line: Line, record: dict[str, Any]) -> int:
    for name in _LENGTHS:
        if record.get(name) is not None:
            return line.count_of(name, record[name])
    raise line.wrong(_LENGTHS[0], None, "a whole number, or --output-len be given")


def _prompt(line: Line, value: Any) -> str | list[Any]:
    if isinstance(value, list) and value and len(value) <= LONGEST:
        return [line.count_of("prompt", token, least=0) for token in value]
    return line.text_of("prompt", value)


def _messages(line: Line, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) and "role" in message for message in value):
        raise line.wrong("messages", value, "a list of messages with a role each")
    return value
