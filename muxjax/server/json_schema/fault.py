"""Why llguidance makes no grammar of something that a client sent."""

from llguidance import LLMatcher

from muxjax.deep_stack import on_deep_stack


def grammar_fault(grammar: str) -> str:
    """The fault of a grammar in llguidance's own form; empty if it has none."""
    return on_deep_stack(lambda: LLMatcher.validate_grammar(grammar, None), len(grammar))


def schema_fault(text: str) -> str:
    """The same of a JSON schema.

    Raises:
      ValueError: it has text that is not Unicode.
    """
    return grammar_fault(LLMatcher.grammar_from_json_schema(text))


def takes_one_of_for_any_of(text: str) -> bool:
    """Whether answers to a JSON schema may follow several branches of a `oneOf`."""
    grammar = LLMatcher.grammar_from_json_schema(text)
    _, warnings = on_deep_stack(lambda: LLMatcher.validate_grammar_with_warnings(grammar, None), len(grammar))
    return any(warning.startswith("oneOf") for warning in warnings)
