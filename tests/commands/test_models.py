"""Models of a running server from the command line: listed, loaded, unloaded, put to sleep and woken."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.demo.run import shipped
from muxjax.engine.options import LoraOptions, ModelOptions, UnitOptions
from muxjax.model_spec import ModelSpec
from muxjax.server.admission.tenants import digest
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from muxjax.types import Adapter
from tests.commands.wrong import fails
from tests.fakes import FakeEngine, FakeLifecycle
from tests.server.kit import served, spec

pytestmark = pytest.mark.usefixtures("own_folder")
KEY = "sesame"


class Lifecycle(FakeLifecycle):
    """Models come and go too."""

    def __init__(self, models):
        super().__init__(models)
        self.loaded: list[ModelOptions] = []

    def load(self, options: ModelOptions) -> ModelSpec:
        self.loaded.append(options)
        self._states[options.name] = "ready"
        return spec()

    def remove(self, name: str, *, timeout_s: float) -> None:
        del self._states[name]


@contextlib.contextmanager
def serving(**http) -> Iterator[tuple[str, Lifecycle]]:
    models, adapter = ("a", "org/b"), Adapter(name="sql", path="adapters/sql", version=1)
    loras = {"a": (LoraOptions(name=adapter.name, path=Path(adapter.path)),)}
    unit = UnitOptions(models=tuple(ModelOptions(name=name, path=Path(name), loras=loras.get(name, ())) for name in models))
    lifecycle = Lifecycle(models)
    entries = [served(ByteTokenizer(300), name) for name in models]
    service = Service(FakeEngine(models), Catalog([*entries, entries[0].under(adapter)]), unit, lifecycle)
    with in_background(service, HttpOptions(port=0, **http)) as url:
        yield url, lifecycle


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("MUXJAX_ADMIN_KEY", KEY)
    with serving(admin_keys=(digest(KEY),)) as running:
        yield running


def test_models_go_to_sleep_wake_come_and_go(server, capsys):
    url, lifecycle = server
    assert main(["sleep", "org/b", "--url", url, "--timeout", "5"]) == 0
    assert lifecycle.states() == {"a": "ready", "org/b": "asleep"}
    assert main(["wake", "org/b", "--url", url.removesuffix("/v1")]) == 0
    assert lifecycle.states() == {"a": "ready", "org/b": "ready"}
    assert main(["load", str(shipped()[0]), "--url", url, "--set", "max-num-seqs=4", "--set", "aliases=[x, y]", "--set", "ttl=10m"]) == 0
    (loaded,) = lifecycle.loaded
    assert (loaded.name, loaded.path, loaded.max_num_seqs, loaded.aliases, loaded.ttl_s) == ("farm", shipped()[0], 4, ("x", "y"), 600)
    assert main(["unload", "farm", "--url", url]) == 0
    assert lifecycle.states() == {"a": "ready", "org/b": "ready"}
    assert capsys.readouterr().out == "org/b sleeps\norg/b is awake\nfarm is ready\nfarm has been removed\n"


@pytest.mark.parametrize("key", [KEY, None], ids=["with the key", "as everybody may see it"])
def test_ps_lists_models_with_what_they_do(capsys, monkeypatch, key):
    monkeypatch.delenv("MUXJAX_ADMIN_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(admin_keys=(digest(KEY),)) as (url, lifecycle):
        lifecycle.sleep("org/b", timeout_s=0)
        assert main(["ps", "--url", url, *(["--admin-key", key] if key else [])]) == 0
    head, *rows, cache = capsys.readouterr().out.splitlines()
    assert head.split() == ["MODEL", "STATE", "RUNNING", "WAITING", "CACHE", "QUOTA"]
    asleep = "asleep" if key else "ready"
    assert [row.split()[:4] for row in rows] == [["a", "ready", "0", "0"], ["sql", "ready", "-", "-"], ["org/b", asleep, "0", "0"]]
    assert rows[1].startswith("  sql")
    assert cache.startswith("cache: 0 of 1000 head blocks")


def test_what_the_server_refuses_is_told_in_a_line(server, capsys):
    url, _ = server
    assert "The model `none` does not exist." in fails(capsys, "sleep", "none", "--url", url)
    assert "no known key" in fails(capsys, "load", "c=x", "--set", "max_seqs=1", "--url", url)
    assert "--set must be KEY=VALUE, such as max_num_seqs=32, got 'x'" in fails(capsys, "load", "c=x", "--set", "x", "--url", url)
    assert "expected a folder or NAME=FOLDER, got '=x'" in fails(capsys, "load", "=x", "--url", url)
    assert "Incorrect or missing admin key" in fails(capsys, "wake", "a", "--url", url, "--admin-key", "other")


def test_without_a_key_nothing_is_changed_and_the_user_told_where_it_goes(server, capsys, monkeypatch):
    url, _ = server
    monkeypatch.delenv("MUXJAX_ADMIN_KEY")
    assert "takes the server's key for administration: --admin-key, or MUXJAX_ADMIN_KEY" in fails(capsys, "sleep", "a", "--url", url)
    monkeypatch.setenv("MUXJAX_ADMIN_KEY", "a\nb")
    assert "a\\nb" not in fails(capsys, "sleep", "a", "--url", url)


def test_no_server_is_told_in_a_line(capsys):
    assert "no server at http://127.0.0.1:1: " in fails(capsys, "ps", "--url", "http://127.0.0.1:1/v1")
    assert "the address must begin with http" in fails(capsys, "ps", "--url", "x")
