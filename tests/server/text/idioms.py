"""Idioms of chat templates, each with the chat that it is shown: what transformers makes of them is in goldens/templates.json."""
# ruff: noqa: E501 (templates are written in one line, as line breaks are part of them)

from dataclasses import dataclass, field
from typing import Any

SPECIALS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "image_token": "<image>",
}
CHAT = [
    {"role": "system", "content": "Be brief. "},
    {"role": "user", "content": " Hi <b>&'é'\n"},
    {"role": "assistant", "content": "Hello\tthere"},
    {"role": "user", "content": "Ünïcode 日本 😀"},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two", "cache": 1}]},
    {"role": "assistant", "content": [{"type": "text", "text": "three"}]},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Says "how warm" it is & <where>',
            "parameters": {
                "type": "object",
                "required": ["place"],
                "properties": {"place": {"type": "string"}, "at": {"enum": [1, 2.5, None]}},
            },
        },
    },
    {"type": "function", "function": {"parameters": {"properties": {}, "type": "object"}, "strict": True, "name": "a_tool"}},
]
CALLS = [
    {"role": "user", "content": "How warm?"},
    {
        "role": "assistant",
        "tool_calls": [
            {
                "id": "call_0001",
                "type": "function",
                "function": {"name": "get_weather", "arguments": {"place": "Öland", "at": [1, {"b": None, "a": True}]}},
            },
            {"type": "function", "function": {"arguments": {}, "name": "a_tool"}, "id": "call_0002"},
        ],
    },
    {"role": "tool", "tool_call_id": "call_0001", "name": "get_weather", "content": "12.5"},
]
ROLES = "{% for m in messages %}{{ '<|' + m.role + '|>' }}{{ m.content }}{% endfor %}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idiom:
    """A template and what it is shown; `answer` and `resume` as `ChatTemplate.render` has them."""

    template: str
    messages: list[dict[str, Any]] = field(default_factory=lambda: CHAT)
    tools: list[dict[str, Any]] | None = None
    answer: bool = False
    resume: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


IDIOMS = {
    "chatml": Idiom(
        template="{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        answer=True,
    ),
    "blocks on lines of their own": Idiom(
        template="{% for m in messages %}\n    {% if m.role == 'user' %}\n  {{ m.content }}\n    {% endif %}\n{% endfor %}\nend\n"
    ),
    "trimmed by dashes": Idiom(template="{%- for m in messages -%}\n  [{{- m.content | trim -}}]\n{%- endfor -%}  \n end"),
    "trimmed blocks kept by plus": Idiom(template="{% for m in messages +%}\n  {%+ if true %}x{% endif %}\n{% endfor %}"),
    "alternating roles": Idiom(
        template="{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0].content %}"
        "{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if loop.first and system is defined %}<<SYS>>{{ system }}<</SYS>>{% endif %}[{{ m.role }}]{{ m.content.strip() }}{% endfor %}"
    ),
    "roles that do not alternate": Idiom(
        template="{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('users only') }}{% endif %}{% endfor %}"
    ),
    "namespace": Idiom(
        template="{% set ns = namespace(n=0, seen='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen ~ m.role[0] %}"
        "{% endfor %}{{ ns.n }}{{ ns.seen }}"
    ),
    "private namespace": Idiom(template="{% set ns = namespace(_x=1) %}{{ ns._x }}"),
    "set in a loop is lost": Idiom(template="{% set n = 1 %}{% for m in messages %}{% set n = n + 1 %}{{ n }}{% endfor %}{{ n }}"),
    "macro": Idiom(
        template="{% macro show(m, end='!') %}<{{ m.role }}>{{ m.content }}{{ end }}{% endmacro %}"
        "{% for m in messages %}{{ show(m) }}{{ show(m, end='?') }}{% endfor %}"
    ),
    "recursive macro": Idiom(
        template="{% macro show(x) %}{% if x is mapping %}{{ '{' }}{% for k, v in x.items() %}{{ k }}:{{ show(v) }};{% endfor %}{{ '}' }}"
        "{% elif x is iterable and x is not string %}[{% for v in x %}{{ show(v) }},{% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}"
        "{{ show(tools) }}",
        tools=TOOLS,
    ),
    "call block": Idiom(
        template="{% macro box() %}[{{ caller() }}]{% endmacro %}{% for m in messages %}{% call box() %}{{ m.content }}{% endcall %}{% endfor %}"
    ),
    "filter block": Idiom(template="{% filter upper | trim %}{% for m in messages %}{{ m.content }} {% endfor %}{% endfilter %}"),
    "break and continue": Idiom(
        template="{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}{{ m.role }}{% endfor %}"
    ),
    "loop variables": Idiom(
        template="{% for m in messages %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
        "{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem.role if not loop.last }}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{% endfor %}"
    ),
    "loop with a condition and an else": Idiom(
        template="{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% else %}none{% endfor %}"
        "{% for m in messages if m.role == 'tool' %}{{ m.content }}{% else %}none{% endfor %}"
    ),
    "last user message": Idiom(
        template="{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% set i = (messages | length - 1) - loop.index0 %}"
        "{% if ns.last < 0 and m.role == 'user' %}{% set ns.last = i %}{% endif %}{% endfor %}{{ ns.last }}{{ messages[ns.last].content }}"
    ),
    "select and map": Idiom(
        template="{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}"
        "{{ messages | rejectattr('role', 'in', ['user', 'system']) | list | length }}{{ messages | map(attribute='role') | unique | list }}"
    ),
    "sort and group": Idiom(
        template="{{ messages | groupby('role') | map('first') | join(',') }}{{ messages | map(attribute='role') | sort(reverse=true) | join }}"
        "{{ tools[0].function.parameters.properties | dictsort }}",
        tools=TOOLS,
    ),
    "json": Idiom(template="{{ messages | tojson }}{{ 'é<&>\"' | tojson }}{{ none | tojson }}{{ 1.0 | tojson }}"),
    "json in many lines": Idiom(
        template="{{ tools | tojson(indent=4) }}\n{% for t in tools %}{{ t | tojson(indent=2) }}\n{% endfor %}", tools=TOOLS
    ),
    "json with separators": Idiom(
        template="{{ tools | tojson(separators=(',', ':'), sort_keys=true) }}{{ messages[1].content | tojson(ensure_ascii=true) }}",
        tools=TOOLS,
    ),
    "tools as they were sent": Idiom(
        template="{% for t in tools %}{{ t | tojson }}{% for k, v in t.function.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}{{ tools }}",
        tools=TOOLS,
    ),
    "calls and results": Idiom(
        template="{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{% if c.function %}{% set c = c.function %}{% endif %}"
        '<tool_call>{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}</tool_call>{% endfor %}'
        "{% elif m.role == 'tool' %}<result {{ m.name }} {{ m.tool_call_id }}>{{ m.content }}</result>{% else %}{{ m.content }}{% endif %}{% endfor %}",
        messages=CALLS,
        tools=TOOLS,
    ),
    "messages as they were sent": Idiom(
        template="{% for m in messages %}{{ m | tojson }}{{ m.keys() | list }}{% endfor %}", messages=CALLS
    ),
    "a call without content": Idiom(
        template="{% for m in messages %}{% if m.content is defined and m.content is not none %}{{ m.content }}{% else %}nothing{% endif %}"
        "{{ m.tool_calls | default([]) | map(attribute='function.name') | join(',') }}{% endfor %}",
        messages=CALLS,
    ),
    "documents": Idiom(
        template="{% if documents %}{% for d in documents %}{{ loop.index }}: {{ d.title | default('?') }} {{ d['text'] }}\n{% endfor %}{% else %}no{% endif %}",
        extra={"documents": [{"title": "A", "text": "a"}, {"text": "b"}]},
    ),
    "no documents and no tools": Idiom(
        template="{{ documents is none }}{{ tools is none }}{{ tools is defined }}{{ nothing is defined }}{{ nothing }}"
    ),
    "special tokens": Idiom(
        template="{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ sep_token }}{{ pad_token }}{{ cls_token }}{{ mask_token }}{{ image_token }}"
    ),
    "variables": Idiom(
        template="{{ enable_thinking is defined and not enable_thinking }}{{ bos_token }}",
        extra={"enable_thinking": False, "bos_token": "<B>"},
    ),
    "dates": Idiom(
        template="{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}"
        "{{ strftime_now('%A %H:%M') if strftime_now is defined }}"
    ),
    "a date that is given": Idiom(
        template="{{ date_string if date_string is defined else strftime_now('%Y') }}", extra={"date_string": "26 Jul 2024"}
    ),
    "answers marked for training": Idiom(
        template="{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{% set x = 1 %}{{ m.content }}{{ loop.index }}{% endgeneration %}"
        "{{ x is defined }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    ),
    "parts in a loop": Idiom(
        template="{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}|{% endfor %}",
        messages=PARTS,
    ),
    "parts by index": Idiom(
        template="{% for m in messages %}{{ m['content'][0]['text'] | trim }}{{ m.content | length }}{% endfor %}", messages=PARTS[1:]
    ),
    "parts through a macro": Idiom(
        template="{% macro show(content) %}{% if content is string %}{{ content }}{% else %}{% for p in content %}{{ p['text'] }}{% endfor %}{% endif %}"
        "{% endmacro %}{% for m in messages %}{{ show(m.content) }};{% endfor %}",
        messages=[*PARTS, {"role": "user", "content": "plain"}],
    ),
    "parts through filters": Idiom(
        template="{% for m in messages %}{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}{% endfor %}",
        messages=PARTS,
    ),
    "parts as they were sent": Idiom(
        template="{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{{ p.cache }}{% endfor %}"
        "{% endif %}{% endfor %}",
        messages=PARTS,
    ),
    "a continued answer": Idiom(template=ROLES + "{{ eos_token }}", messages=CHAT[:3], resume=True),
    "a continued answer that is trimmed": Idiom(
        template="{% for m in messages %}[{{ m.content | trim }}]{{ eos_token }}{% endfor %}",
        messages=[*CHAT[:2], {"role": "assistant", "content": " so then  "}],
        resume=True,
    ),
    "a continued answer of parts": Idiom(
        template="{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{{ eos_token }}{% endfor %}",
        messages=PARTS,
        resume=True,
    ),
    "a continued answer that is not shown": Idiom(template="{{ messages[0].content }}", messages=CHAT[:3], resume=True),
    "reasoning": Idiom(
        template="{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.thinking }}{{ m.content }}{% endfor %}",
        messages=[CHAT[1], {"role": "assistant", "reasoning": "hm", "content": "so"}],
    ),
    "thoughts cut off": Idiom(
        template="{% for m in messages %}{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ c }}{% endfor %}",
        messages=[CHAT[1], {"role": "assistant", "content": "<think>a</think>\n\nb"}],
    ),
    "methods of texts": Idiom(
        template="{{ messages[1].content.strip().upper().replace('B', '**').split('<') }}{{ messages[0].role.title() }}{{ 'a-b'.partition('-') }}"
        "{{ '%s of %03d' % ('x', 7) }}{{ '{:>4}|{a}'.format(1, a='z') }}{{ '%-4s|' | format('y') }}{{ 'x'.center(5, '.') }}{{ ','.join(['a', 'b']) }}"
        "{{ messages[0].content.startswith('Be') }}{{ messages[0].content.rstrip() ~ 1 ~ none }}"
    ),
    "filters of texts": Idiom(
        template="{{ messages[0].content | upper | replace('BE', 'X') | indent(2, first=true) }}{{ 'a b c' | wordwrap(3) }}{{ 'see http://a.b/c' | urlize }}"
        "{{ 'a<b>c</b>' | striptags }}{{ 'one two' | title }}{{ 'long text here' | truncate(8) }}{{ 'x' | center(5) }}{{ '<' | e }}{{ 'a b' | wordcount }}"
        "{{ {'a': 1} | xmlattr }}{{ 'a b&c' | urlencode }}{{ {'b': 1, 'a': [2]} | pprint }}{{ 1234567 | filesizeformat }}"
    ),
    "numbers": Idiom(
        template="{{ 7 // 2 }}{{ 7 / 2 }}{{ 2 ** 10 }}{{ -7 % 3 }}{{ 2.675 | round(2) }}{{ '12' | int + 1 }}{{ 'x' | int(5) }}{{ [3, 1] | sum }}{{ [3, 1] | max }}"
        "{{ range(5) | batch(2) | list }}{{ range(5) | slice(2) | list }}{{ '3.5' | float }}{{ -3 | abs }}"
    ),
    "tests": Idiom(
        template="{{ 1 is odd }}{{ none is none }}{{ 'a' in 'abc' }}{{ x is undefined }}{{ [] is sequence }}{{ {} is mapping }}{{ 'x' is string }}"
        "{{ true is boolean }}{{ 3 is divisibleby 3 }}{{ messages is iterable }}{{ 'A' is upper }}{{ 2 is sameas 2 }}"
    ),
    "lists and dictionaries": Idiom(
        template="{% set l = ['a'] + ['b'] %}{{ l }}{{ l[-1] }}{{ dict(a=1, **{'b': 2}) }}{{ dict.fromkeys(['x'], 1) }}{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}"
        "{{ {'z': 1, 'a': 2} | items | list }}{{ messages[0].get('name', 'none') }}{{ ['a', 'b'] | join('-') }}{{ (1, 2) }}{% set a, b = 1, 2 %}{{ a + b }}"
    ),
    "a list that is changed": Idiom(template="{{ messages.append(1) }}"),
    "raw, comments and with": Idiom(
        template="{# no #}{% raw %}{{ x }}{% endraw %}{% with x = 1 %}{{ x }}{% endwith %}{{ x }}{% set y %}a{{ messages[0].role }}{% endset %}{{ y | length }}"
    ),
    "conditions": Idiom(
        template="{{ 'a' if messages | length > 3 else 'b' }}{{ '' or 'c' }}{{ none and 1 }}{{ not tools }}{{ 1 if false }}"
        "{% if messages[-1].role == 'user' and (add_generation_prompt or true) %}u{% elif x %}x{% else %}e{% endif %}{{ 1 < 2 < 3 }}"
    ),
    "escapes": Idiom(template="{{ '\\n\\t\\u00e9' }}{{ \"'\" }}{{ '<&>' }}\\n{{ '\"' | tojson | length }}{{ '{{' }}"),
}
