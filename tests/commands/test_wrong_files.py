"""Wrong files of every command, made by rules: each ends at once, in one line that says what is wrong, and status 2."""

import json
from pathlib import Path

import pytest

from tests.commands.wrong import NO_VALUES, PLACE, PLACEMENT, PROBLEM, SIMULATE, fails


def yaml_of(**fields: str) -> str:
    return "\n".join(f"{name}: {value}" for name, value in fields.items()) + "\n"


DEMAND = {"name": "a", "shape": "llama-3.2-1b", "rate": "1"}
PROBLEMS = {
    "name": [*NO_VALUES.values()],
    "shape": [*NO_VALUES.values(), "gpt-17"],
    "path": [*NO_VALUES.values(), "here"],
    "rate": [*NO_VALUES.values(), "0", "-1", ".nan", ".inf", "1e300", "true", "0x" + "f" * 4000],
    "lengths": [*NO_VALUES.values(), "nobody"],
    "prompt_tokens": [*list(NO_VALUES.values())[:2], "0", "-1", ".inf", "1e300", "x"],
    "ttft": ["0", "-1", ".inf", "x", "[1]"],
    "unknown": ["1"],
}


@pytest.mark.parametrize("field", PROBLEMS)
def test_a_wrong_value_of_a_problem_is_told_in_one_line(folder, capsys, field):
    for value in PROBLEMS[field]:
        demand = {name: text for name, text in DEMAND.items() if not (field == "path" and name == "shape")} | {field: value}
        Path("problem.yaml").write_text("models:\n- " + yaml_of(**demand).replace("\n", "\n  "))
        assert "problem.yaml:" in fails(capsys, *PLACE)


CLUSTERS = {
    "nodes": ["0", "-1", "1.5", "100000000", "x", "[1]", ".nan", "true"],
    "devices_per_node": ["0", "-1", "1.5", "100000000", "x", ".inf"],
    "chip": ["x", "[1]", "", "1"],
}


@pytest.mark.parametrize("field", CLUSTERS)
def test_a_wrong_cluster_is_told_in_one_line(folder, capsys, field):
    for value in CLUSTERS[field]:
        Path("problem.yaml").write_text(f"cluster: {{{field}: {value}}}\nmodels:\n  - {{name: a, shape: llama-3.2-1b, rate: 1}}\n")
        assert field in fails(capsys, *PLACE)


@pytest.mark.parametrize("field", ["max_batch", "memory_frac", "fairness"])
def test_a_wrong_limit_of_a_problem_is_told_in_one_line(folder, capsys, field):
    for value in ("0", "-1", "x", "[1]", ".nan", *(["1e12", "1.5", str(2**70)] if field == "max_batch" else [])):
        Path("problem.yaml").write_text(f"{PROBLEM}{field}: {value}\n")
        assert field in fails(capsys, *PLACE)


DOCUMENTS = {
    "empty": "",
    "a word": "x",
    "a list": "[1, 2]",
    "a control character": "a: \x01",
    "not closed": "a: [",
    "two documents": "a: 1\n---\nb: 2\n",
    "nested deep": "a: " + "[" * 5000 + "]" * 5000,
    "keys nested deep": "{a: " * 3000 + "1" + "}" * 3000,
    "models nested deep": "models: " + "[" * 3000 + "]" * 3000,
    "a thousand million of laughs": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(25)),
    "a list that holds itself": "models: &a [*a]",
    "a key that is a list": "? [a]\n: 1\nmodels: []\n",
    "a key given twice": "models: []\nmodels: []\n",
    "too large": "#" * 2**20 + "\nmodels: []",
    "models that are none": "models: {a: b}",
    "no models": "models: []",
    "models that are words": "models: [a, b]",
    "a long unknown key": "x" * 20000 + ": 1\nmodels: []",
}


@pytest.mark.parametrize("command", [PLACE, ("serve", "problem.yaml"), ("run-batch", "problem.yaml", "-i", "in.jsonl", "-o", "o.jsonl")])
@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_yaml_that_is_no_configuration_is_told_in_one_line(folder, capsys, command, text):
    Path("problem.yaml").write_text(text)
    assert "models" in (told := fails(capsys, *command)) or "problem.yaml" in told


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\0", b"\x89PNG\r\n", bytes(range(256))])
def test_bytes_that_are_no_text_are_told_in_one_line(folder, capsys, data):
    for name, command in (("problem.yaml", PLACE), ("problem.yaml", ("serve", "problem.yaml")), ("placement.json", SIMULATE)):
        good = Path(name).read_bytes()
        Path(name).write_bytes(data)
        assert name in fails(capsys, *command)
        Path(name).write_bytes(good)


SERVED = {
    "port": [*NO_VALUES.values(), "70000", "1.5", "true"],
    "api_keys": [*NO_VALUES.values(), "[]x", "secret", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    "kv_cache_size": [*list(NO_VALUES.values())[:2], "0", "-1", "9e99"],
    "max_num_batched_tokens": [*NO_VALUES.values(), "1", "16.5", str(2**70)],
    "trace": [*list(NO_VALUES.values())[:2], '"a\\0b"', "true"],
    "policy": [*list(NO_VALUES.values())[:2], "best"],
    "allowed_origins": [*NO_VALUES.values()],
    "read_timeout": [*NO_VALUES.values(), "0", ".inf"],
    "otel": [*NO_VALUES.values(), "1", "maybe"],
    "tenants": [*NO_VALUES.values(), "[{name: a}]", "[{name: a, api_keys: []}]", "[{api_keys: []}]", "[{name: a, weight: 0}]", "[1]"],
}


@pytest.mark.parametrize("field", SERVED)
def test_a_wrong_option_of_a_server_is_told_in_one_line(folder, capsys, field):
    for value in SERVED[field]:
        Path("serve.yaml").write_text(f"models: [{{name: a, path: model}}]\n{field}: {value}\n")
        told = fails(capsys, "serve", "serve.yaml").replace("-", "_")
        assert field in told or "serve.yaml:2: " in told


SERVED_MODEL = {
    "name": [*NO_VALUES.values()],
    "path": [*list(NO_VALUES.values())[:3], '"a\\0b"'],
    "aliases": [*NO_VALUES.values(), "[a]", "[b, b]"],
    "max_model_len": ["1", "1.5", "-1", "x", "[1]", str(2**70)],
    "max_num_seqs": [*NO_VALUES.values(), "0", "5000", "1.5"],
    "rate": [*NO_VALUES.values(), "0", ".inf"],
    "enforce": ["true", "[1]", "1"],
    "chat_template": [*list(NO_VALUES.values())[:2], '"a\\0b"'],
}


@pytest.mark.parametrize("field", SERVED_MODEL)
def test_a_wrong_option_of_a_model_is_told_in_one_line(folder, capsys, field):
    for value in SERVED_MODEL[field]:
        options = {"name": "a", "path": "model"} | {field: value}
        Path("serve.yaml").write_text("models:\n- " + yaml_of(**options).replace("\n", "\n  "))
        fails(capsys, "serve", "serve.yaml")


PLACEMENTS = {
    "deep": "[" * 100_000,
    "an object that is deep": '{"a":' * 100_000,
    "a list": "[]",
    "a rate beyond all": json.dumps(PLACEMENT).replace('"rate_rps": 1.0', '"rate_rps": 1e308'),
    "more units than devices": json.dumps(PLACEMENT | {"units": PLACEMENT["units"] * 100_000}),
    "another version": json.dumps(PLACEMENT | {"muxjax_placement": 2}),
    "no units": json.dumps(PLACEMENT | {"units": []}),
    "units that are none": json.dumps(PLACEMENT | {"units": 3}),
    "a number without an end": '{"muxjax_placement": ' + "1" * 5000 + "}",
    "devices without an end": json.dumps(PLACEMENT).replace('"devices": 1', '"devices": 1000000000000'),
    "no devices": json.dumps(PLACEMENT).replace('"devices": 1', '"devices": 0'),
    "a device below none": json.dumps(PLACEMENT).replace("[0]", "[-1]"),
    "another model": json.dumps(PLACEMENT).replace('"a"', '"b"'),
    "a rate that is none": json.dumps(PLACEMENT).replace("1.0", "NaN"),
    "a rate without an end": json.dumps(PLACEMENT).replace("1.0", "1e999"),
}


@pytest.mark.parametrize("text", PLACEMENTS.values(), ids=PLACEMENTS)
def test_a_wrong_placement_is_told_in_one_line(folder, capsys, text):
    Path("placement.json").write_text(text)
    fails(capsys, *SIMULATE)


TRACES = {
    "deep": "[" * 100_000,
    "no header": json.dumps({"time_s": 0}),
    "nothing": "",
    "no request": '{"muxjax_trace": 1}\n',
    "a list": "[]",
    "a value of another kind": '{"muxjax_trace": 1}\n{"time_s": [], "model": "a", "prompt_tokens": 1, "output_tokens": 1}',
    "another model": '{"muxjax_trace": 1}\n{"time_s": 0, "model": "b", "prompt_tokens": 1, "output_tokens": 1}',
}


@pytest.mark.parametrize("form", ["muxjax", "azure", "burst-gpt", "mooncake"])
@pytest.mark.parametrize("text", TRACES.values(), ids=TRACES)
def test_a_wrong_trace_is_told_in_one_line(folder, capsys, form, text):
    Path("trace").write_text(text)
    fails(capsys, *SIMULATE, "--trace", "trace", "--format", form)


def test_costs_that_are_none_are_told_in_one_line(folder, capsys):
    for text in ("[" * 100_000, "{}", "[]", "1" * 5000, '{"version": 1}'):
        Path("costs.json").write_text(text)
        assert "table" in fails(capsys, *PLACE, "--costs", "costs.json")


def test_a_key_given_twice_is_told_with_both_lines(folder, capsys):
    Path("serve.yaml").write_text("port: 1\nkv-cache-size: 1MiB\nmodels: [{name: a, path: model}]\nkv_cache_bytes: 2MiB\n")
    assert "serve.yaml:4: kv_cache_bytes is given twice, and stands in line 2 already" in fails(capsys, "serve", "serve.yaml")
