"""Fields that would change the answer and are not honoured: refused, unless their value changes nothing."""

from muxjax.server.openai.fields import Fields, show

_OFF: tuple[object, ...] = (False, [], {}, "")
_COMMON: dict[str, tuple[object, ...]] = {"logits_processors": _OFF, "use_beam_search": _OFF, "length_penalty": (1,)}
_COMPLETION: dict[str, tuple[object, ...]] = {"suffix": _OFF, "prompt_embeds": _OFF}
_CHAT: dict[str, tuple[object, ...]] = {
    "audio": _OFF,
    "modalities": (["text"],),
    "chat_template": (),
    "echo": _OFF,
}
_NEW_NAMES = {name: name.removeprefix("guided_") for name in ("guided_json", "guided_regex", "guided_choice", "guided_grammar")}


def refuse_unsupported(fields: Fields, *, chat: bool) -> None:
    """Raises RequestError: a field of the tables asks for something; it is named."""
    for name, neutral in (_COMMON | (_CHAT if chat else _COMPLETION)).items():
        value = fields.get(name)
        if value is not None and not any(_same(value, other) for other in neutral):
            raise fields.error(name, f"is not supported, got {show(value)}", code="unsupported_value")
    for name, new in _NEW_NAMES.items():
        if fields.get(name) is not None:
            raise fields.error(name, f'was replaced: use structured_outputs {{"{new}": ...}}', code="unsupported_value")
    best_of, n = fields.get("best_of"), fields.get("n")
    if best_of is not None and not _same(best_of, 1) and not _same(best_of, n):
        raise fields.error("best_of", f"must be 1 or equal to n, got {show(best_of)}", code="unsupported_value")


def _same(value: object, other: object) -> bool:
    """Equality to which false is not 0, and true not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other
