"""Adapters are served over HTTP like models of their own, and come and go."""

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from muxjax.engine.options import LoraOptions, ModelOptions, UnitOptions
from muxjax.server.admission.tenants import digest
from muxjax.server.background import in_background
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from muxjax.specs.config import read_spec, to_hf_config
from tests.device.test_step import SPEC
from tests.models.adapter import make_adapter
from tests.programs import with_jax_cache
from tests.server.http.test_admin import KEY, WAIT_S, Endpoint
from tests.xla_cache import XLA_CACHE


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with a base and adapters over it."""
    root = tmp_path_factory.mktemp("root")
    (root / "base").mkdir()
    (root / "base/config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None), vocab=300))))
    for seed, name in enumerate(("sql", "poems", "more")):
        make_adapter(root / name, read_spec(root / "base"), seed)
    return root


@pytest.fixture(scope="module")
def endpoint(root) -> Iterator[Endpoint]:
    loras = (LoraOptions(name="sql", path=root / "sql"), LoraOptions(name="poems", path=root / "poems"))
    model = ModelOptions(name="a", path=root / "base", load_format="dummy", dtype="float32", max_num_seqs=4, loras=loras, max_lora_rank=4)
    plain = ModelOptions(name="plain", path=root / "base", load_format="dummy", dtype="float32", max_num_seqs=4)
    sizes = {"block_bytes": 512, "max_num_batched_tokens": 16, "kv_cache_bytes": 2**20, "compilation_cache_dir": str(XLA_CACHE)}
    service = build_service(UnitOptions(models=(model, plain), **sizes), report=lambda line: None, progress=False)
    with in_background(service, HttpOptions(port=0, admin_keys=(digest(KEY),), model_root=root)) as url:
        yield Endpoint(url, root / "base")
    with_jax_cache()


def said(endpoint: Endpoint, model: str) -> str:
    return "".join(chunk.choices[0].text for chunk in endpoint.ask(model))


def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.url, api_key="none", max_retries=0, timeout=WAIT_S)


def adapters(endpoint: Endpoint) -> dict[str, str]:
    return {entry["name"]: entry["model"] for entry in endpoint.change("GET", "/adapters")["data"]}


def test_adapters_are_listed_as_models_of_their_own_under_the_one_they_are_over(endpoint, root):
    listed = {model.id: model.model_dump() for model in client(endpoint).models.list()}
    assert {name: model["parent"] for name, model in listed.items()} == {"a": None, "sql": "a", "poems": "a", "plain": None}
    assert (listed["sql"]["root"], listed["sql"]["state"]) == (str(root / "sql"), "ready")
    assert listed["sql"]["max_model_len"] == listed["a"]["max_model_len"]
    assert adapters(endpoint) == {"sql": "a", "poems": "a"}


def test_each_answers_in_its_own_way_and_is_counted_by_its_own_name(endpoint):
    answers = {name: said(endpoint, name) for name in ("a", "sql", "poems")}
    assert len(set(answers.values())) == 3
    assert answers["a"] == said(endpoint, "plain")
    asked = client(endpoint).completions.create(model="sql", prompt=[5, 6, 7], max_tokens=2)
    assert asked.model == "sql"
    with urllib.request.urlopen(endpoint.url.removesuffix("/v1") + "/metrics") as metrics:
        text = metrics.read().decode()
    assert 'vllm:generation_tokens_total{model_name="sql"} 14.0' in text


def test_an_adapter_comes_while_others_are_asked_and_goes(endpoint):
    with endpoint.load("a", "sql") as wrong:
        entry = endpoint.change("POST", "/adapters", 201, {"name": "more", "path": "more", "model": "a"})
        assert (entry["name"], entry["model"]) == ("more", "a")
        assert said(endpoint, "more") not in (said(endpoint, "a"), said(endpoint, "sql"))
        assert endpoint.change("DELETE", "/adapters/more")["deleted"]
    assert wrong == []
    with pytest.raises(openai.NotFoundError):
        endpoint.ask("more")
    endpoint.change("DELETE", "/adapters/more", 404)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"name": "sql", "path": "more", "model": "a"}, 409, "is there already"),
        ({"name": "a", "path": "more", "model": "a"}, 409, "is there already"),
        ({"name": "x", "path": "more", "model": "b"}, 404, "`b` does not exist"),
        ({"name": "x", "path": "more", "model": "plain"}, 400, "`plain` has no place for adapters: start it with max_loras"),
        ({"name": "x", "path": "base", "model": "a"}, 400, "adapter x over a: .*adapter_config.json does not exist"),
        ({"name": "x", "path": "../elsewhere", "model": "a"}, 400, "path must lie in the model root"),
        ({"name": "x", "path": "more"}, 400, "model is required"),
        ({"path": "more", "model": "a"}, 400, "name"),
        ({"name": "x", "path": "more", "model": "a", "rank": 3}, 400, "rank is no known key"),
    ],
)
def test_what_is_no_adapter_over_a_model_is_refused(endpoint, body, status, message):
    error = endpoint.change("POST", "/adapters", status, body)["error"]
    assert re.search(message, error["message"])
    assert adapters(endpoint) == {"sql": "a", "poems": "a"}


def test_adapters_go_with_the_model_that_they_are_over(endpoint):
    endpoint.add("other", path="base", loras=[{"name": "tales", "path": "more"}], max_lora_rank=4)
    assert said(endpoint, "tales") != said(endpoint, "other")
    endpoint.change("POST", "/models/other/sleep")
    with pytest.raises(openai.InternalServerError) as asleep:
        endpoint.ask("tales")
    assert asleep.value.code == "model_loading"
    endpoint.change("POST", "/models/other/wake")
    assert said(endpoint, "tales") != said(endpoint, "other")
    endpoint.change("DELETE", "/models/other")
    with pytest.raises(openai.NotFoundError):
        endpoint.ask("tales")
    assert adapters(endpoint) == {"sql": "a", "poems": "a"}
