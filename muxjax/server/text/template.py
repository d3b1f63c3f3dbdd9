"""Chat templates: messages to one prompt, as the checkpoint has it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from muxjax.errors import ConfigError, RequestError
from muxjax.server.text.config_files import read_config
from muxjax.server.text.sandbox import Sandbox

_SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token")
_END = "\ufdd0"  # no character: where the last message ends for now
_RENDER_ERRORS = (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError)


class ChatTemplate:
    """A chat template, run in a sandbox.

    Args:
      specials: texts of special tokens that a template may name.
    Raises:
      ConfigError: the source is no jinja template.
    """

    def __init__(self, source: str, specials: Mapping[str, str]):
        self.source = source
        self._specials = specials
        self._roles = {} if "developer" in source else {"developer": "system"}  # OpenAI's new name, which most templates drop
        try:
            self._environment = _environment()
            self._template = self._environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the chat template is no jinja template: {error}", field="chat_template") from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        answer: bool = True,
        resume: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> str:
        """The prompt.

        Args:
          answer: end with the beginning of the assistant's answer.
          resume: end within the last message, as if it were still being written.
          tools: descriptions of functions.
          extra: further variables of the template.
        Raises:
          RequestError: the template refuses the messages.
        """
        messages = [{**message, "role": self._roles.get(str(message["role"]), message["role"])} for message in messages]
        if resume:
            messages = [*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}{_END}"}]
        fixed = {"messages": messages, "add_generation_prompt": answer, "tools": tools}
        try:
            text = self._environment.render(self._template, {**self._specials, "documents": None, **(extra or {}), **fixed})
        except _RENDER_ERRORS as error:
            raise RequestError(f"the chat template refused the messages: {str(error)[:200]}", param="messages") from error
        return _until_end(text) if resume else text


def _until_end(text: str) -> str:
    before, end, _ = text.partition(_END)
    if not end:
        raise RequestError("the chat template does not show the last message, so it cannot be continued", param="continue_final_message")
    return before


def load_template(folder: Path, override: Path | None = None) -> ChatTemplate | None:
    """The template of a file, or else of a checkpoint's chat_template.jinja or tokenizer_config.json; None where there is none.

    Raises:
      ConfigError: the file is missing or no template.
    """
    config = read_config(folder / "tokenizer_config.json")
    source = _read(override) if override else _own_source(folder, config.get("chat_template"))
    return None if source is None else ChatTemplate(source, _specials(config))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the chat template {path}: {error}", field="chat_template") from error


def _own_source(folder: Path, configured: object) -> str | None:
    if (folder / "chat_template.jinja").exists():
        return _read(folder / "chat_template.jinja")
    if isinstance(configured, list):
        templates = {entry.get("name"): entry.get("template") for entry in configured if isinstance(entry, dict)}
        configured = templates.get("default")
    return configured if isinstance(configured, str) else None


def _specials(config: Mapping[str, object]) -> dict[str, str]:
    """A special token is written as its text, or as an object with its content."""
    values = {name: config.get(name) for name in _SPECIALS}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _environment() -> Sandbox:
    """Names and settings that Hugging Face's templates count on."""
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _GenerationTag(Extension):
    """`{% generation %}` marks an answer for training; here its body is text like any other."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: object, ensure_ascii: bool = False, indent: int | None = None, separators=None, sort_keys: bool = False) -> str:
    """Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
