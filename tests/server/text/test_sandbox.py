"""Templates of strangers: what they cannot reach, and what they cannot spend."""

import pytest

from muxjax.errors import RequestError
from muxjax.server.text import sandbox
from muxjax.server.text.template import ChatTemplate
from tests.server.text.test_template import HELLO

ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ''['format_map']({}).__class__ }}",
    "{{ '{0.__class__}'.format(1) | length + 1 }}",
    "{% set x = messages.append(1) %}",
    "{{ namespace.__init__ }}",
    "{{ messages | map(attribute='__class__') | list | first }}",
]
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% set ns = namespace(x=1) %}{% for b in range(99999) %}{% set ns.x = b %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
]
LONG = 3 * 2**17
HUGE = [
    "{{ 'x' * 10 ** 9 }}",
    "{{ 10 ** 9 * [1] }}",
    "{{ 9 ** 999999999 }}",
    "{% for a in range(9) %}{{ 'x' * 30000000 }}{% endfor %}",
    "{% set ns = namespace(x=9) %}{% for a in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ '%s' % ns.x }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ 'x'.ljust(10 ** 9) }}",
    "{{ 'x'.zfill(10 ** 9) }}",
    "{{ '\t'.expandtabs(10 ** 9) }}",
    "{{ ('\t' * 9999).expandtabs(99999) }}",
    "{{ ('x\n' * 9999) | indent(99999) }}",
    "{{ range(9999) | list | tojson(indent=99999) }}",
    "{{ long.replace('x', long) }}",
    "{{ long | replace('x', long) }}",
    "{{ long.join(['a'] * 1000) }}",
    "{{ (['a'] * 1000) | join(long) }}",
    "{{ ([messages[0]] * 1000) | join(long, attribute='role') }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=1000000000) }}",
    "{{ range(1) | batch(10 ** 9, 0) | list }}",
    "{{ ([[1] * 9999] * 9999) | sum(start=[]) }}",
]
SLOW = [
    *(
        f"{{{{ long | {name} }}}}"
        for name in (
            "wordwrap",
            "urlize",
            "striptags",
            "urlencode",
            "title",
            "pprint",
            "wordcount",
            "list",
            "unique | list",
            "sort",
            "map('upper') | list",
        )
    ),
    "{{ ('\\n' * 999999) | indent }}",
    "{{ [[long]] | pprint }}",
    "{{ {'a': long} | xmlattr }}",
    "{{ ('a ' * 999999).split(' ') }}",
    "{{ ('a ' * 999999).split() }}",
    "{{ ('a\n' * 999999).splitlines() }}",
]


def render(source: str) -> str:
    return ChatTemplate(source, {}).render(HELLO, extra={"long": "x" * LONG})


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_of_python_is_told(source):
    try:
        text = render(source)
    except RequestError:
        return
    assert "class" not in text and "function" not in text


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_without_an_end_is_stopped(source, monkeypatch):
    monkeypatch.setattr(sandbox, "RENDER_S", 0.05)
    with pytest.raises(RequestError, match="takes longer"):
        render(source)


@pytest.mark.parametrize("source", HUGE)
def test_a_template_cannot_fill_the_memory(source):
    with pytest.raises(RequestError, match=r"more than (67108864 characters|131072 bits)"):
        render(source)


@pytest.mark.parametrize("source", SLOW)
def test_what_is_slow_on_long_texts_is_for_short_ones(source):
    with pytest.raises(RequestError, match="takes at most 131072 characters or items"):
        render(source)


def test_time_is_looked_at_wherever_a_template_spends_some(monkeypatch):
    ticks, counts = [], []
    monkeypatch.setattr(sandbox.Sandbox, "tick", lambda self: ticks.append(self) or "")
    for source in (
        "x",
        "{{ x | upper }}",
        "{{ x.upper() }}",
        "{% for a in x if a > 'x' %}{% endfor %}",
        "{{ (x * 5) | map('upper') | list }}",
    ):
        template = ChatTemplate(source, {"x": "x"})
        ticks.clear()
        template.render(HELLO)
        counts.append(len(ticks))
    assert all(count >= least for count, least in zip(counts, [0, 1, 1, 1, 6], strict=True)), counts


@pytest.mark.parametrize(
    "source, text",
    [
        ("{{ long | length }}{{ long | upper | trim | replace('y', '') | length }}{{ (long ~ '!')[-2:] }}", f"{LONG}{LONG}x!"),
        ("{{ [long, long] | join | length }}{{ [long] | map('length') | list }}{{ messages | tojson | length }}", f"{2 * LONG}[{LONG}]42"),
        ("{{ '%5d|%s' % (1234567890, 'a') }}{{ '{:>3}{}'.format(1, 10 ** 7) }}", "1234567890|a  110000000"),
        ("{{ 'ab' * 3 }}{{ 2 ** 10 }}{{ 6 * 7 }}{{ 2 * 'c' }}", "ababab102442cc"),
        ("{% for m in messages recursive %}{{ loop.index }}{% else %}none{% endfor %}", "1"),
        ("{% macro f(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call f(2) %}!{% endcall %}", "<2!>"),
        ("{% for m in [] %}{% else %}none{% endfor %}", "none"),
    ],
)
def test_what_templates_do_still_works(source, text):
    assert render(source) == text
