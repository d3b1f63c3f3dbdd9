"""Fields that would change the answer and cannot be honoured yet: refused, unless their value changes nothing."""

from muxjax.errors import RequestError
from muxjax.server.fields import Fields, show

_OFF: tuple[object, ...] = (False, [], {}, "")
_COMMON: dict[str, tuple[object, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": _OFF,
    "min_tokens": (0,),
    "bad_words": _OFF,
    "allowed_token_ids": _OFF,
    "include_stop_str_in_output": _OFF,
    "skip_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "return_token_ids": _OFF,
    "response_format": ({"type": "text"},),
    "structured_outputs": _OFF,
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "logits_processors": _OFF,
    "use_beam_search": _OFF,
    "length_penalty": (1,),
}
_COMPLETION: dict[str, tuple[object, ...]] = {"echo": _OFF, "logprobs": (False,), "suffix": _OFF, "prompt_embeds": _OFF}
_CHAT: dict[str, tuple[object, ...]] = {
    "logprobs": _OFF,
    "top_logprobs": (0,),
    "tools": _OFF,
    "tool_choice": ("none", "auto"),
    "functions": _OFF,
    "function_call": ("none", "auto"),
    "audio": _OFF,
    "modalities": (["text"],),
    "documents": _OFF,
    "chat_template": (),
    "continue_final_message": _OFF,
    "add_special_tokens": _OFF,
}


def refuse_unsupported(fields: Fields, *, chat: bool) -> None:
    """Raises RequestError: a field of the tables asks for something; it is named."""
    for name, neutral in (_COMMON | (_CHAT if chat else _COMPLETION)).items():
        value = fields.get(name)
        if value is not None and not any(_same(value, other) for other in neutral):
            raise fields.error(name, f"is not supported yet, got {show(value)}", code="unsupported_value")
    best_of, n = fields.get("best_of"), fields.get("n")
    if best_of is not None and not _same(best_of, 1) and not _same(best_of, n):
        raise fields.error("best_of", f"must be 1 or equal to n, got {show(best_of)}", code="unsupported_value")


def refuse_message_extras(message: Fields) -> None:
    """Raises RequestError: a message of tool calls."""
    for name in ("tool_calls", "function_call"):
        if message.get(name):
            raise RequestError(f"messages with {name} are not supported yet", param="messages", code="unsupported_value")


def _same(value: object, other: object) -> bool:
    """Equality to which false is not 0, and true not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other
