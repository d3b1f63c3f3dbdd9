"""Models are added, removed, put to sleep and woken over HTTP, while requests for all of them keep coming."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.admission.tenants import digest
from muxjax.server.background import in_background
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from muxjax.specs.config import to_hf_config
from tests.device.test_step import SPEC
from tests.programs import with_jax_cache
from tests.xla_cache import XLA_CACHE

KEY = "only for administrators"
WAIT_S = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    path.joinpath("config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None), vocab=300))))
    return path


class Endpoint:
    """A server of model "a", its administrator, and clients."""

    def __init__(self, url: str, folder: Path):
        self.url, self.folder, self.key = url, folder, KEY

    def change(self, method: str, path: str, status: int = 200, body: dict | None = None) -> dict:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=WAIT_S)
        with closing(connection):
            connection.request(method, "/admin" + path, json.dumps(body or {}), {"Authorization": f"Bearer {self.key}"})
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status == status, text
        return json.loads(text)

    def add(self, name: str, status: int = 201, **changes) -> dict:
        body = {"name": name, "path": str(self.folder), "load_format": "dummy", "dtype": "float32", "max_num_seqs": 4}
        return self.change("POST", "/models", status, {**body, **changes})

    def states(self) -> dict[str, str]:
        return {entry["name"]: entry["state"] for entry in self.change("GET", "/models")["data"]}

    def ask(self, model: str, tokens: int = 12) -> list:
        client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=WAIT_S)
        stream = client.completions.create(
            model=model, prompt=[5, 6, 7], max_tokens=tokens, temperature=0, stream=True, extra_body={"ignore_eos": True}
        )
        return [chunk for chunk in stream if chunk.choices]

    @contextmanager
    def load(self, *models: str) -> Iterator[list[str]]:
        """Two clients a model that ask again and again; yields what went wrong."""
        over, wrong = threading.Event(), []
        asked = dict.fromkeys(models, 0)

        def client(model: str) -> None:
            while True:
                try:
                    chunks = self.ask(model)
                    asked[model] += 1
                    if chunks[-1].choices[0].finish_reason != "length":
                        wrong.append(f"{model}: {chunks[-1]}")
                except Exception as error:
                    wrong.append(f"{model}: {error!r}")
                if over.wait(0.05):  # which leaves others the machine
                    return

        threads = [threading.Thread(target=client, args=(model,)) for model in models for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield wrong
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert all(asked.values()), asked


@pytest.fixture(scope="module")
def endpoint(folder) -> Iterator[Endpoint]:
    model = ModelOptions(name="a", path=folder, load_format="dummy", dtype="float32", max_num_seqs=4)
    sizes = {"block_bytes": 512, "max_num_batched_tokens": 16, "memory_bytes": 64 * 2**20, "compilation_cache_dir": str(XLA_CACHE)}
    service = build_service(UnitOptions(models=(model,), **sizes), report=lambda line: None, progress=False)
    with in_background(service, HttpOptions(port=0, admin_keys=(digest(KEY),))) as url:
        yield Endpoint(url, folder)
    with_jax_cache()


def test_no_request_fails_while_models_come_sleep_wake_and_go(endpoint):
    with endpoint.load("a") as wrong:
        added = endpoint.add("b", auto_wake=True, aliases=["bee"])
        assert (added["state"], added["aliases"]) == ("ready", ["bee"])
        with endpoint.load("b", "bee") as wrong_of_b:
            assert endpoint.change("POST", "/models/b/sleep")["name"] == "b"  # its next request wakes it, if that was not so already
            assert endpoint.change("POST", "/models/b/wake")["state"] == "ready"
        assert wrong_of_b == []
        assert endpoint.change("DELETE", "/models/b")["deleted"]
    assert wrong == [] and endpoint.states() == {"a": "ready"}
    cache = endpoint.change("GET", "/models")["cache"]
    assert cache["total_blocks"] == pytest.approx(64 * 2**20 // 512, rel=0.1)


def test_a_sleeping_model_is_a_503_with_a_code(endpoint):
    endpoint.add("quiet")
    endpoint.change("POST", "/models/quiet/sleep")
    with pytest.raises(openai.InternalServerError) as refused:
        endpoint.ask("quiet")
    assert (refused.value.status_code, refused.value.code) == (503, "model_loading")
    endpoint.change("DELETE", "/models/quiet")
    with pytest.raises(openai.NotFoundError):
        endpoint.ask("quiet")


def test_what_cannot_be_done_is_told_with_its_status(endpoint, tmp_path):
    assert "known key" in endpoint.add("d", 400, max_num_seq=3)["error"]["message"]
    assert endpoint.add("d", 400, max_num_seqs=0)["error"]["param"] == "max_num_seqs"
    assert endpoint.change("POST", "/models", 400, {"name": "d"})["error"]["message"].endswith("needs path too")
    assert endpoint.add("d", 400, path=str(tmp_path))["error"]["code"] == "model_refused"
    assert endpoint.add("a", 409)["error"]["code"] == "conflict"
    assert "named once each" in endpoint.add("d", 400, aliases=["a"])["error"]["message"]
    for method, path in (("DELETE", "/models/z"), ("POST", "/models/z/sleep"), ("POST", "/models/z/wake")):
        assert endpoint.change(method, path, 404)["error"]["code"] == "model_not_found"
    assert endpoint.change("DELETE", "/models/a", 409)["error"]["message"] == "The last model cannot be removed."
    assert endpoint.change("POST", "/models/a/sleep?timeout=soon", 400)["error"]["param"] == "timeout"
    assert endpoint.states() == {"a": "ready"}


def test_administration_needs_its_key(endpoint):
    stranger = Endpoint(endpoint.url, endpoint.folder)
    stranger.key = "another"
    for method, path in (("GET", "/models"), ("POST", "/models"), ("DELETE", "/models/a"), ("POST", "/models/a/sleep")):
        stranger.change(method, path, 401)
    assert endpoint.states() == {"a": "ready"}
