"""What is never written anywhere, and never read: clients' texts, our insides, code in files."""

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxjax.server.background import in_background
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from tests.fakes import FakeEngine
from tests.server.http.test_auth import LOCKED, ask

ROOT = Path(__file__).parents[3]
SECRET = "xyzzy-4711"
CHAT = {"model": "a", "max_tokens": 2}
BODIES = [
    ("completions", {"model": "a", "prompt": SECRET, "max_tokens": 2}),
    ("completions", {"model": "a", "prompt": SECRET, "max_tokens": 2, "stream": True}),
    ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": SECRET}]}),
    ("chat/completions", {**CHAT, "messages": [{"role": SECRET, "content": SECRET}]}),
    ("chat/completions", {**CHAT, "messages": [{"role": "tool", "content": SECRET}]}),
    ("completions", {"model": SECRET, "prompt": SECRET}),
    ("completions", {"model": "a", "prompt": {"text": SECRET}}),
    ("completions", {"model": "a", "prompt": "the", "stop": SECRET, "user": SECRET, "no_such_field": SECRET, "max_tokens": 2}),
    ("completions", {"model": "a", "prompt": "the", "temperature": SECRET}),
]


class Broken(FakeEngine):
    """Has a defect that speaks of its insides."""

    def submit(self, request, *, prepared=False):
        raise ValueError("/home/owner/weights: slot 17")


def test_what_clients_write_is_not_logged(catalog, caplog):
    caplog.set_level(logging.DEBUG)
    with in_background(Service(FakeEngine(["org/a", "plain"]), catalog), HttpOptions(port=0, **LOCKED)) as url:
        for path, body in BODIES:
            status, _, _ = ask(f"{url}/{path}", "open", method="POST", body=json.dumps(body).encode())
            assert status in (200, 400, 404)
        ask(f"{url}/completions", "open", method="POST", body=SECRET.encode())
        ask(f"{url}/completions", SECRET, method="POST", body=b"{}")
    assert "no_such_field" in caplog.text  # logs were seen
    assert SECRET not in caplog.text


def test_a_defects_text_is_not_logged_with_the_request_nor_told(catalog, caplog):
    with in_background(Service(Broken(["org/a", "plain"]), catalog), HttpOptions(port=0)) as url:
        status, _, body = ask(f"{url}/completions", method="POST", body=json.dumps(BODIES[0][1]).encode())
    assert status == 500
    assert json.loads(body)["error"] == {
        "message": "The server had an error while processing the request.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    assert "slot 17" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("size", [10, 10**6])
def test_no_error_repeats_a_long_input(catalog, size):
    with in_background(Service(FakeEngine(["org/a", "plain"]), catalog), HttpOptions(port=0)) as url:
        long = "x" * size
        for body in ({"model": long}, {"model": "a", "prompt": [{long: long}]}, {"model": "a", "prompt": "the", "stop": [long] * 65}):
            status, _, answer = ask(f"{url}/completions", method="POST", body=json.dumps(body).encode())
            assert 400 <= status < 500
            assert len(answer) < 2000


RUNS_CODE = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "torch", "code", "jsonpickle"}


def code_runners(source: str) -> Iterator[str]:
    """What of a module could run code that a file holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in RUNS_CODE)
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            bare = isinstance(node.func, ast.Name) and called in ("eval", "exec", "compile", "__import__")
            unsafe_yaml = called in ("unsafe_load", "full_load") or (called == "load" and ast.unparse(node.func) == "yaml.load")
            if bare or unsafe_yaml or any(word.arg == "allow_pickle" for word in node.keywords):
                yield ast.unparse(node)


def test_no_module_can_run_what_a_file_holds():
    modules = sorted((ROOT / "muxjax").rglob("*.py"))
    assert len(modules) > 100
    others = [path for path in modules if path.parent.name != "programs"]
    assert len(others) > 100
    assert [f"{path.name}: {found}" for path in others for found in code_runners(path.read_text())] == []


def test_of_compiled_programs_two_modules_alone_unpickle_what_is_ours():
    """`store` looks first at who could have written a file (tests/device/programs/test_store.py); `worker` reads its parent's pipe."""
    modules = sorted((ROOT / "muxjax/device/programs").glob("*.py"))
    assert {path.name for path in modules if list(code_runners(path.read_text()))} == {"store.py", "worker.py"}


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "def f():\n    from cloudpickle import loads",
        "import torch.serialization",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import yaml\nyaml.load('x', yaml.Loader)",
        "yaml.unsafe_load('x')",
        "eval('1')",
        "__import__('os')",
    ],
)
def test_the_search_notices(planted):
    assert list(code_runners(planted))


def test_the_search_lets_pass_what_is_harmless():
    assert list(code_runners("import json, re\nnumpy.load(path)\nmodel.eval()\nre.compile('x')\nprogram.compile(1)")) == []


def test_every_defence_of_the_threat_page_names_tests_that_exist():
    page = (ROOT / "docs/threats.md").read_text()
    tests: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        tests[path.name] = tests.get(path.name, "") + path.read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "::" in line]
    assert len(rows) > 15
    named = [name for row in rows for name in row.rsplit("|", 2)[1].replace("`", "").split(", ")]
    missing = [name for name in named if f"def {name.strip().split('::')[1]}(" not in tests.get(name.strip().split("::")[0], "")]
    assert missing == []
