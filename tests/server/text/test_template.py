import pytest

from muxjax.errors import ConfigError, RequestError
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.template_files import load_template
from tests.server.kit import write_json

TOOLS = [{"type": "function", "function": {"name": "f"}}]
HELLO = [{"role": "user", "content": "<b> & 'é'"}]


def render(source: str, messages=HELLO, **options) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages, **options)


def test_blocks_leave_no_blank_lines():
    assert render("{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}\n") == "user\n"


def test_json_is_not_escaped_for_html():
    assert render("{{ messages[0].content | tojson }}") == "\"<b> & 'é'\""
    assert render("{{ messages[0] | tojson(indent=1) }}").count("\n") == 3


def test_loops_may_break():
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"


def test_a_mark_for_training_is_no_text():
    assert render("a{% generation %}{{ messages[0].role }}{% endgeneration %}b") == "auserb"


def test_variables_are_at_hand():
    assert render("{{ bos_token }}{{ add_generation_prompt }}{{ tools is none }}") == "<s>TrueTrue"
    assert render("{{ add_generation_prompt }}{{ think }}", answer=False, extra={"think": "no"}) == "Falseno"
    assert render("{{ messages | length }}", extra={"messages": []}) == "1"
    assert len(render("{{ strftime_now('%Y') }}")) == 4


def test_a_continued_message_ends_where_its_content_does():
    source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    messages = [*HELLO, {"role": "assistant", "content": "so </s> "}]
    assert render(source, messages, answer=False, resume=True).endswith("[assistant]so </s> ")
    trimmed = source.replace("m.content", "m.content | trim")
    assert render(trimmed, messages, answer=False, resume=True).endswith("[assistant]so </s>")
    with pytest.raises(RequestError, match="does not show the last message"):
        render("{{ messages[0].content }}", messages, resume=True)


def test_a_developer_is_the_system_to_a_template_that_knows_none():
    developer = [{"role": "developer", "content": "be brief"}]
    assert render("{% for m in messages %}{{ m.role }}{% endfor %}", developer) == "system"
    assert render("{% for m in messages %}{% if m.role == 'developer' %}known{% endif %}{% endfor %}", developer) == "known"


def test_tools_and_documents_are_at_hand():
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert render("{{ tools[0].function.name }}{{ documents is none }}", tools=tools, extra={"tools": "no"}) == "fTrue"
    assert render("{{ documents[0].text }}", extra={"documents": [{"text": "d"}]}) == "d"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].role + 1 }}",
        "{{ nothing.at.all }}",
        "{{ cycler() }}",
    ],
)
def test_a_template_that_fails_is_the_clients_error(source):
    with pytest.raises(RequestError, match="the chat template refused the messages") as error:
        render(source)
    assert (error.value.status, error.value.param) == (400, "messages")


def test_python_is_out_of_reach():
    with pytest.raises(RequestError, match="unsafe"):
        render("{{ ''.__class__.__mro__ }}")


def test_a_source_that_is_no_template_stops_the_start():
    with pytest.raises(ConfigError, match="no jinja template"):
        ChatTemplate("{% if %}", {})


def test_the_config_holds_one_template_or_named_ones(tmp_path):
    assert load_template(tmp_path) is None
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": "one {{ eos_token }}", "eos_token": {"content": "</s>"}})
    assert load_template(tmp_path).render(HELLO) == "one </s>"
    named = [
        {"name": "tool_use", "template": "t {{ tools | length }}"},
        {"name": "default", "template": "d"},
        {"name": "rag", "template": "r"},
    ]
    for templates in (named, {entry["name"]: entry["template"] for entry in named}):
        write_json(tmp_path / "tokenizer_config.json", {"chat_template": templates})
        template = load_template(tmp_path)
        assert (template.render(HELLO), template.render(HELLO, tools=TOOLS), template.source) == ("d", "t 1", "d")
    for templates in (named[2:], {"rag": "r"}):
        write_json(tmp_path / "tokenizer_config.json", {"chat_template": templates})
        assert load_template(tmp_path) is None


def test_where_nothing_else_has_one_that_of_a_processor_is_taken(tmp_path):
    write_json(tmp_path / "chat_template.json", {"chat_template": "processor"})
    assert load_template(tmp_path).render(HELLO) == "processor"
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": "config"})
    assert load_template(tmp_path).render(HELLO) == "config"


def test_templates_of_files_have_the_name_of_the_file(tmp_path):
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": "config"})
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    template = load_template(tmp_path)
    assert template.render(HELLO, tools=TOOLS) == "tools"
    with pytest.raises(RequestError, match="for chats with tools only"):
        template.render(HELLO)
    (tmp_path / "chat_template.jinja").write_text("file")
    template = load_template(tmp_path)
    assert (template.render(HELLO), template.render(HELLO, tools=TOOLS)) == ("file", "tools")
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "additional_chat_templates" / "default.jinja").write_text("default")
    assert load_template(tmp_path).render(HELLO) == "default"


def test_a_file_beats_the_config_and_an_override_beats_both(tmp_path):
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": "config"})
    (tmp_path / "chat_template.jinja").write_text("file")
    (tmp_path / "mine.jinja").write_text("mine")
    assert load_template(tmp_path).render(HELLO) == "file"
    assert load_template(tmp_path, tmp_path / "mine.jinja").render(HELLO, tools=TOOLS) == "mine"
    with pytest.raises(ConfigError, match=r"absent\.jinja"):
        load_template(tmp_path, tmp_path / "absent.jinja")


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}", True),
        ("{% if tools %}{{ tools[0].function.name }}{% endif %}", True),
        ("{% if messages[0].role == 'system' and tools %}{{ tools }}{% endif %}", True),
        ("{% if tools %}There are tools.{% endif %}", False),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}", False),
        ("{{ messages }}", False),
    ],
)
def test_a_template_shows_tools_or_does_not(source, shows):
    assert ChatTemplate(source, {}).shows_tools is shows
    assert ChatTemplate("{{ messages }}", {}, tool_use=source).shows_tools is shows


def test_an_error_of_a_template_names_its_file(tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ raise_exception('no') }}")
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    for override, name in ((None, "chat_template.jinja"), (tmp_path / "mine.jinja", "mine.jinja")):
        with pytest.raises(RequestError, match=rf"refused the messages: no \({name}\)"):
            load_template(tmp_path, override).render(HELLO)
