"""A request wakes a sleeping model, whichever way it comes."""

import asyncio
import io
import json
from pathlib import Path

import openai
import pytest

from muxjax.commands.batch.file import read_requests
from muxjax.commands.batch.run_batch import Batch, run_through
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.llms import LLMs
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine, FakeLifecycle
from tests.server.kit import served


def over_http(service: Service) -> str:
    with in_background(service, HttpOptions(port=0)) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        return client.completions.create(model="a", prompt="hi", max_tokens=2).choices[0].text


def over_http_as_a_stream(service: Service) -> str:
    with in_background(service, HttpOptions(port=0)) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        return "".join(event.choices[0].text for event in client.completions.create(model="a", prompt="hi", max_tokens=2, stream=True))


def from_a_script(service: Service) -> str:
    with LLMs.over(service) as llms:
        return llms.generate("a", "hi", max_tokens=2)[0].text


def from_a_batch(service: Service) -> str:
    body = {"model": "a", "prompt": "hi", "max_tokens": 2}
    line = json.dumps({"custom_id": "x", "method": "POST", "url": "/v1/completions", "body": body}).encode()
    output = io.BytesIO()
    run_through(service, Batch(requests=read_requests(io.BytesIO(line)), output=output, lines=1), most_open=1)
    return json.loads(output.getvalue())["response"]["body"]["choices"][0]["text"]


WAYS = [over_http, over_http_as_a_stream, from_a_script, from_a_batch]


def asleep(*, auto_wake: bool) -> tuple[Service, FakeLifecycle]:
    """A service whose one model sleeps."""
    unit = UnitOptions(models=(ModelOptions(name="a", path=Path("a"), auto_wake=auto_wake),))
    lifecycle = FakeLifecycle(["a"])
    service = Service(FakeEngine(["a"]), Catalog([served(ByteTokenizer(300), "a")]), unit, lifecycle)
    assert service.fleet is not None
    asyncio.run(service.fleet.sleep("a", timeout_s=1.0))
    assert lifecycle.states() == {"a": "asleep"}
    return service, lifecycle


@pytest.mark.parametrize("answer", WAYS)
def test_a_request_wakes_its_model(answer):
    service, lifecycle = asleep(auto_wake=True)
    assert answer(service) == "hi"
    assert lifecycle.states() == {"a": "ready"}


@pytest.mark.parametrize("answer", WAYS)
def test_a_model_that_is_not_to_be_woken_sleeps_on(answer):
    service, lifecycle = asleep(auto_wake=False)
    answer(service)  # a fake engine answers all the same
    assert lifecycle.states() == {"a": "asleep"}
