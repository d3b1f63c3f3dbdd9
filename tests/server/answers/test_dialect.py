"""The parser that a checkpoint is written for, from its chat template."""

import pytest

from muxjax.engine.options import REASONING_PARSERS, TOOL_CALL_PARSERS
from muxjax.server.answers.dialect import NONE, dialect_of
from muxjax.server.answers.formats.hermes import HERMES
from muxjax.server.answers.formats.known import PARSERS, parser_of
from muxjax.server.answers.formats.mistral import ARGUMENTS, LIST, WITH_ID
from muxjax.server.answers.reasoning import REASONING, reasoning_of

TEMPLATES = {
    "Qwen 2.5 and Hermes": (
        "{%- if tools %}# Tools\\n\\nreturn a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n"
        '<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call>{%- endif %}',
        "hermes",
        None,
    ),
    "Qwen 3": (
        "{%- if tools %}<tool_call>{%- endif %}{%- set content = content.split('</think>')[-1] %}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
        "hermes",
        "qwen3",
    ),
    "Qwen 3 Coder": ("{%- if tools %}<tool_call>\\n<function=example>\\n{%- endif %}", None, None),
    "GLM": ("{%- if tools %}<tool_call>{name}\\n<arg_key>{k}</arg_key>{%- endif %}", None, None),
    "Llama 3.1": (
        '{%- if tools is not none %}{{- \'<|python_tag|>\' }}{\\"name\\": function name, \\"parameters\\": {%- endif %}',
        "llama3_json",
        None,
    ),
    "Llama 3.2": (
        'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}{% if tools %}',
        "llama3_json",
        None,
    ),
    "tools in other words": ("{%- if tools %}{{ tools | tojson }}{%- endif %}", None, None),
    "Llama 4": (
        "{%- if tools %}[func_name1(params_name1=params_value1)]{%- endif %}",
        "pythonic",
        None,
    ),
    "Mistral": ("{%- if tools %}[AVAILABLE_TOOLS]{%- endif %}{{- '[TOOL_CALLS] [' }}", "mistral", None),
    "Magistral": ("{%- if tools %}{%- endif %}[TOOL_CALLS]{{ name }}[ARGS][THINK]", "mistral", "mistral"),
    "DeepSeek R1 of January": ("{% set content = content.split('</think>')[-1] %}{{ '<Assistant>' }}", None, "deepseek_r1"),
    "DeepSeek R1 of February": ("{% set content = content.split('</think>')[-1] %}{{ '<Assistant><think>\\n' }}", None, "qwen3"),
    "ChatML": ("{% for m in messages %}{{ m.content }}{% endfor %}", None, None),
}


@pytest.mark.parametrize(("template", "calls", "reasoning"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_says_how_its_model_writes(template, calls, reasoning):
    assert (parser_of(template), reasoning_of(template)) == (calls, reasoning)


def test_mistral_writes_as_its_template_does():
    assert [PARSERS["mistral"](template)[0] for template in ("[TOOL_CALLS] [", "[ARGS]", "[CALL_ID][ARGS]")] == [LIST, ARGUMENTS, WITH_ID]


def test_the_operator_may_name_another_or_none():
    template = TEMPLATES["Qwen 3"][0]
    assert dialect_of(template, {}).calls == (HERMES,) and dialect_of(template, {}).reasoning == REASONING["qwen3"]
    chosen = dialect_of(template, {}, tool_call_parser="mistral", reasoning_parser="deepseek_r1")
    assert chosen.calls[0] == LIST and chosen.reasoning == REASONING["deepseek_r1"]
    none = dialect_of(template, {}, tool_call_parser=NONE, reasoning_parser=NONE)
    assert (none.calls, none.reasoning) == ((), None)


def test_options_name_all_parsers_that_there_are():
    assert set(TOOL_CALL_PARSERS) == {*PARSERS, NONE} and set(REASONING_PARSERS) == {*REASONING, NONE}
