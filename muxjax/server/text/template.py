"""Chat templates: messages to one prompt, as the checkpoint has it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from muxjax.errors import ConfigError, RequestError
from muxjax.server.text.content_forms import ContentForms, read_forms, shows_tools
from muxjax.server.text.environment import chat_environment
from muxjax.server.text.sandbox import OutOfTime

Message = Mapping[str, Any]

_END = "\ufdd0"  # no character: where the last message ends for now
_RENDER_ERRORS = (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError)
_TRIALS_S = 2.0
"""For finding out what a template takes; a stranger's may be slow by intent."""
_REASONING = ("reasoning_content", "thinking", "reasoning")


class ChatTemplate:
    """A chat template, run in a sandbox; where tools are given, another one if there is one for that.

    Args:
      source: None where there is no template for chats without tools.
      specials: special tokens that a template may name.
      name: of the file that has it.
    Raises:
      ConfigError: a source is no jinja template.
    """

    def __init__(self, source: str | None, specials: Mapping[str, object], *, tool_use: str | None = None, name: str = "chat_template"):
        self.name = name
        self.source = source if source is not None else tool_use
        self.tools_source = tool_use or source or ""
        self._plain = None if source is None else _Program(source, specials)
        self._tool_use = self._plain if tool_use is None else _Program(tool_use, specials)

    @property
    def shows_tools(self) -> bool:
        """A chat's tools are part of its prompt."""
        return self._tool_use is not None and self._tool_use.shows_tools

    def render(
        self,
        messages: Sequence[Message],
        *,
        answer: bool = True,
        resume: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> str:
        """The prompt.

        Args:
          messages: with content as one string or as parts, or none at all beside calls of tools.
          answer: end with the beginning of the assistant's answer.
          resume: end within the last message, as if it were still being written.
          tools: descriptions of functions.
          extra: further variables of the template.
        Raises:
          RequestError: the template refuses the messages.
        """
        program = self._plain if tools is None else self._tool_use
        if program is None:
            raise RequestError("the model's chat template is for chats with tools only", param="tools")
        messages = program.shaped(messages)
        if resume:
            messages = [*messages[:-1], _unfinished(messages[-1])]
        try:
            text = program.run(messages, {**(extra or {}), "add_generation_prompt": answer, "tools": tools})
        except _RENDER_ERRORS as error:
            raise RequestError(f"the chat template refused the messages: {str(error)[:200]} ({self.name})", param="messages") from error
        return _until_mark(text) if resume else text


class _Program:
    """One compiled template, and what it takes."""

    def __init__(self, source: str, specials: Mapping[str, object]):
        self._specials = specials
        self._roles = {} if "developer" in source else {"developer": "system"}  # OpenAI's new name, which most templates drop
        try:
            self._environment = chat_environment()
            self._template = self._environment.from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ConfigError(f"the chat template is no jinja template: {error}", field="chat_template") from error
        self._tried_until_s = time.monotonic() + _TRIALS_S
        self._forms, self.shows_tools = ContentForms(), True
        try:
            self._forms = read_forms(self._tried)
            self.shows_tools = shows_tools(self._tried, self._forms)
        except OutOfTime:
            pass

    def shaped(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages with the roles, content and names of fields that the template knows."""
        known = ({**message, "role": self._roles.get(str(message["role"]), message["role"])} for message in messages)
        return [self._forms.message(_with_reasoning(message)) for message in known]

    def run(self, messages: Sequence[Message], variables: Mapping[str, object]) -> str:
        """Raises anything of _RENDER_ERRORS."""
        return self._environment.render(self._template, {**self._specials, "documents": None, **variables, "messages": messages})

    def _tried(self, messages: Sequence[Message], variables: Mapping[str, object]) -> str | None:
        if time.monotonic() > self._tried_until_s:
            raise OutOfTime("the chat template takes too long to be tried")
        try:
            return self.run(messages, {"tools": None, "add_generation_prompt": False, **variables})
        except OutOfTime:
            raise
        except _RENDER_ERRORS:
            return None


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """An assistant's reasoning under each name that templates read it by."""
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _unfinished(message: dict[str, Any]) -> dict[str, Any]:
    """The message with a mark at the end of its text, and a space that tells whether the template strips it."""
    content, mark = message.get("content"), f"{_END} "
    if isinstance(content, str):
        return {**message, "content": content + mark}
    if not content:
        raise RequestError("the last message has no text that could be continued", param="continue_final_message")
    return {**message, "content": [*content[:-1], {**content[-1], "text": content[-1]["text"] + mark}]}


def _until_mark(text: str) -> str:
    before, mark, behind = text.rpartition(_END)
    if not mark:
        raise RequestError("the chat template does not show the last message, so it cannot be continued", param="continue_final_message")
    return before if behind.startswith(" ") else before.rstrip()
