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
HUGE = ["{{ 'x' * 10 ** 9 }}", "{{ 10 ** 9 * [1] }}", "{{ 9 ** 999999999 }}", "{% for a in range(9) %}{{ 'x' * 30000000 }}{% endfor %}"]


def render(source: str) -> str:
    return ChatTemplate(source, {}).render(HELLO)


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
    with pytest.raises(RequestError, match="more than 67108864 characters"):
        render(source)


@pytest.mark.parametrize(
    "source, text",
    [
        ("{{ 'ab' * 3 }}{{ 2 ** 10 }}{{ 6 * 7 }}{{ 2 * 'c' }}", "ababab102442cc"),
        ("{% for m in messages recursive %}{{ loop.index }}{% else %}none{% endfor %}", "1"),
        ("{% macro f(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call f(2) %}!{% endcall %}", "<2!>"),
        ("{% for m in [] %}{% else %}none{% endfor %}", "none"),
    ],
)
def test_what_templates_do_still_works(source, text):
    assert render(source) == text
