"""The dashboard and the rules name what the server tells, and are well formed."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.promql import Read, reads
from tests.server.telemetry.filled import filled_metrics

FOLDER = Path(__file__).parents[2] / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
OF_PROMETHEUS = {"job", "instance"}
_DURATION = re.compile(r"\d+[smhd]")


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The labels of every sample that the server tells, by its name."""
    samples = [sample for family in text_string_to_metric_families(filled_metrics().exposition().decode()) for sample in family.samples]
    return {sample.name: {label for each in samples if each.name == sample.name for label in each.labels} for sample in samples}


def queries() -> list[str]:
    """All of the dashboard."""
    variables = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())] + variables


def unknown(read: Read, told: dict[str, set[str]]) -> str | None:
    """What is wrong with what is read, if something is."""
    if read.metric in RECORDED | {"up", "model_name"}:  # the last is the second argument of label_values
        return None
    if read.metric not in told:
        return f"no metric {read.metric}"
    wrong = read.labels - told[read.metric] - OF_PROMETHEUS
    return f"{read.metric} has no label {', '.join(sorted(wrong))}" if wrong else None


@pytest.mark.parametrize("expression", queries())
def test_the_dashboard_reads_what_the_server_tells(expression, told):
    assert reads(expression)
    assert [fault for read in reads(expression) if (fault := unknown(read, told))] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_the_rules_read_what_the_server_tells(rule, told):
    assert [fault for read in reads(rule["expr"]) if (fault := unknown(read, told))] == []


@pytest.mark.parametrize(
    "expression, fault",
    [
        ("vllm:num_requests_runing", "no metric vllm:num_requests_runing"),
        ("rate(vllm:generation_tokens[5m])", "no metric vllm:generation_tokens"),
        ('muxjax_kv_blocks{stat="held"}', "muxjax_kv_blocks has no label stat"),
        ("sum by (phase) (vllm:num_requests_running)", "vllm:num_requests_running has no label phase"),
        ("1 + sum(muxjax_nothing) / 2", "no metric muxjax_nothing"),
    ],
)
def test_a_name_that_nobody_tells_is_found(expression, fault, told):
    assert [unknown(read, told) for read in reads(expression)] == [fault]


@pytest.mark.parametrize(
    "expression",
    ["sum(a", "sum by (b a)", "rate(a)", "a{b=c}", "a{b}", "a b", "a + ", "nothing(a)", "rate(a[5x])", "a ~ b", ")", 'a{b="c}', "sum by a"],
)
def test_what_is_no_expression_is_refused(expression):
    with pytest.raises(ValueError):
        reads(expression)


def test_every_rule_is_a_record_or_an_alert_with_words():
    names = [rule.get("alert") or rule["record"] for rule in RULES]

    assert len(set(names)) == len(names) > 8
    for rule in RULES:
        assert set(rule) <= ({"record", "expr"} if "record" in rule else {"alert", "expr", "for", "labels", "annotations"})
        if "alert" in rule:
            assert re.fullmatch(r"Muxjax\w+", rule["alert"]) and rule["labels"]["severity"] in ("warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description"}
            assert _DURATION.fullmatch(rule.get("for", "1m"))
        else:
            assert re.fullmatch(r"[a-zA-Z_:][\w:]*", rule["record"])


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_the_words_of_an_alert_name_labels_that_it_has(rule, told):
    words = " ".join(rule["annotations"].values())
    named = set(re.findall(r"\$labels\.(\w+)", words))
    kept = {label for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(", ")} or OF_PROMETHEUS | {
        "model_name"
    }

    assert words.count("{{") == words.count("}}")
    assert named <= kept


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    squares = [
        (x, y)
        for position in (panel["gridPos"] for panel in panels)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24
    assert all(panel["description"] and panel["title"] for panel in panels if panel["type"] != "row")
