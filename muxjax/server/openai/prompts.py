"""Prompts in tokens, from a client's texts, token ids, or messages through the chat template."""

from collections.abc import Sequence
from typing import NamedTuple

from muxjax.engine.request_checker import check_prompt
from muxjax.errors import RequestError
from muxjax.server.answers.tools import ToolUse
from muxjax.server.catalog import ServedModel
from muxjax.server.openai.fields import Fields, is_token, show
from muxjax.server.openai.lengths import require_fit, require_short
from muxjax.server.openai.messages import is_continued, read_messages

MOST_PROMPTS = 1024
_ALL_BUT_ONE = -1


class Prompt(NamedTuple):
    """One prompt.

    Args:
      text: None where the client sent tokens, or not all of its text is left.
    """

    tokens: tuple[int, ...]
    text: str | None = None


def read_prompts(fields: Fields, model: ServedModel, name: str = "prompt", *, most: int = MOST_PROMPTS) -> list[Prompt]:
    """A string, token ids, or a list of either; token ids are taken as they are.

    Args:
      name: the field's.
      most: prompts in a list.
    Raises:
      RequestError: anything else.
    """
    value = fields.required(name)
    special = fields.flag("add_special_tokens", True)
    single = isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(item, int) for item in value))
    values = [value] if single else value
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        raise fields.error(name, f"must be a string, token ids, or a list of 1 to {most} of them, got {show(value)}")
    if fields.get("truncate_prompt_tokens") is not None:
        require_short(model, sum(len(item) for item in values if isinstance(item, str)), name)
    return [_fitting(fields, model, item, name, special=special) for item in values]


def read_chat(fields: Fields, model: ServedModel, tools: ToolUse | None) -> Prompt:
    """Messages through the model's chat template, which brings its own special tokens.

    Raises:
      RequestError: there is no template, or it refuses the messages.
    """
    if model.template is None:
        raise RequestError(f"The model `{model.name}` has no chat template: use /v1/completions, or start it with one.", param="model")
    messages = read_messages(fields)
    resume = is_continued(fields, messages)
    extra = fields.object("chat_template_kwargs")
    documents = [document.raw for document in fields.objects("documents")]
    text = model.template.render(
        messages,
        answer=fields.flag("add_generation_prompt", True) and not resume,
        resume=resume,
        tools=[tool.description for tool in tools.tools] if tools else None,
        extra={"documents": documents or None, **(extra.raw if extra else {})},
    )
    return _cut(fields, model, Prompt(_encoded(fields, model, text, "messages", special=fields.flag("add_special_tokens", False))))


def room(model: ServedModel, tokens: Sequence[int], param: str) -> int:
    """Tokens that an answer may have.

    Raises:
      RequestError: none.
    """
    left = model.max_model_len - len(tokens)
    if left < 1:
        raise RequestError(
            f"This model's maximum context length is {model.max_model_len} tokens. However, your {param} has {len(tokens)} tokens, "
            "which leaves no room for an answer. Please shorten it.",
            param=param,
            code="context_length_exceeded",
        )
    return left


def _fitting(fields: Fields, model: ServedModel, value: object, name: str, *, special: bool) -> Prompt:
    """One prompt, cut if that is wished; raises RequestError before the next one is looked at."""
    prompt = _cut(fields, model, _prompt(fields, value, model, name, special=special))
    room(model, prompt.tokens, name)
    return prompt


def _prompt(fields: Fields, value: object, model: ServedModel, name: str, *, special: bool) -> Prompt:
    if isinstance(value, str):
        return Prompt(_encoded(fields, model, value, name, special=special), value)
    if isinstance(value, list) and fields.get("truncate_prompt_tokens") is None:
        room(model, value, name)  # before each of them is looked at
    if not isinstance(value, list) or not all(is_token(token, model.spec.vocab) for token in value):
        raise fields.error(name, f"must hold strings or token ids from 0 to {model.spec.vocab - 1}, got {show(value)}")
    return Prompt(tuple(value))


def _encoded(fields: Fields, model: ServedModel, text: str, param: str, *, special: bool) -> tuple[int, ...]:
    """Raises RequestError: too long a text, even for one that is to be cut, or one of tokens that the model does not have."""
    if fields.get("truncate_prompt_tokens") is None:
        require_fit(model, text, param)
    else:
        require_short(model, len(text), param)
    return encode(model, text, param, special=special)


def encode(model: ServedModel, text: str, param: str, *, special: bool) -> tuple[int, ...]:
    """The text's tokens.

    Raises:
      RequestError: one of them is none that the model has.
    """
    tokens = model.tokenizer.encode(text, special=special)
    check_prompt(tokens, model.spec.vocab, param=param, spell=lambda token: model.tokenizer.decode((token,), special=True))
    return tokens


def _cut(fields: Fields, model: ServedModel, prompt: Prompt) -> Prompt:
    """The prompt's last tokens if there are more than the client wants; -1 wants as many as leave room for one more."""
    most = fields.integer("truncate_prompt_tokens", None, _ALL_BUT_ONE, model.max_model_len - 1)
    if most == 0:
        raise fields.error("truncate_prompt_tokens", "must be -1, or 1 or more, got 0", code="invalid_value")
    most = model.max_model_len - 1 if most == _ALL_BUT_ONE else most
    return prompt if most is None or len(prompt.tokens) <= most else Prompt(prompt.tokens[-most:])
