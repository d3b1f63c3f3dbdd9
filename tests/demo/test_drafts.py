"""Answers whose tokens are drafted, over HTTP, on the real engine: word for word those without, whole, streamed and cut off at a stop."""

import contextlib
import dataclasses
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import openai
import pytest

from muxjax.demo.items import items
from muxjax.demo.run import demo_options, shipped
from muxjax.demo.worlds import WORLDS
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.server.background import in_background
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

SPECULATIVE = SpeculativeOptions(method="ngram", prompt_lookup_min=1)
STORY = "The cow ate the hay. The pig ate the corn. The cow ate the hay. The pig ate"
ASKED: list[dict[str, Any]] = [
    {"prompt": STORY, "temperature": 0.0, "extra_body": {"ignore_eos": True}},
    {"prompt": STORY, "temperature": 2.0, "seed": 5, "extra_body": {"ignore_eos": True}},
    {"prompt": STORY, "temperature": 0.7, "seed": 6, "top_p": 0.9, "n": 2},
    {"prompt": STORY, "temperature": 0.0, "stop": ["."], "extra_body": {"ignore_eos": True}},
    {"prompt": STORY, "temperature": 0.0, "logprobs": 1},
    {"prompt": STORY, "temperature": 0.0, "extra_body": {"structured_outputs": {"regex": "( the hay\\.| the corn\\.){4}"}}},
]


@contextlib.contextmanager
def served(speculative: SpeculativeOptions | None) -> Iterator[str]:
    options = demo_options([folder for folder in shipped() if folder.name == "farm"])
    models = tuple(dataclasses.replace(model, speculative_config=speculative) for model in options.models)
    options = dataclasses.replace(options, models=models, compilation_cache_dir=str(XLA_CACHE))
    with only_essential_programs():
        service = build_service(options, report=lambda line: None, progress=False)
    with in_background(service, HttpOptions(port=0)) as url:
        yield url


def answers(url: str) -> list[Any]:
    """Texts of all that is asked, at once, and one by one in streams."""
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)

    def text(asked: dict[str, Any]) -> list[Any]:
        made = client.completions.create(model="farm", max_tokens=40, **asked)
        return [(choice.text, choice.finish_reason, choice.logprobs and choice.logprobs.tokens) for choice in made.choices]

    def streamed(messages: Any) -> str:
        chunks = client.chat.completions.create(model="farm", messages=messages, temperature=0.0, max_tokens=24, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    with ThreadPoolExecutor(len(ASKED)) as pool:
        whole = list(pool.map(text, ASKED))
    return whole + [streamed(list(item.messages)) for item in islice(items(WORLDS["farm"], seed=3), 4)]


def drafted(url: str) -> dict[str, float]:
    """The metrics of drafts, by the end of their names."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith("vllm:spec_decode_num_")]
    return {name.partition("num_")[2].partition("_total")[0]: float(value) for name, _, value in found}


@pytest.fixture(scope="module")
def plain() -> list[Any]:
    with served(None) as url:
        made = answers(url)
        assert set(drafted(url).values()) == {0}
    return made


def test_answers_are_those_without_drafts_and_the_metrics_tell_of_them(plain):
    with served(SPECULATIVE) as url:
        assert answers(url) == plain
        counts = drafted(url)
    assert 0 < counts["accepted_tokens"] < counts["draft_tokens"] and counts["drafts"] > 0
    assert plain[3][0][1] == "stop" and "." not in plain[3][0][0]
    assert plain[0] != plain[1]
