"""The demo's models answer right on every path from a client to the shared cache and back."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from muxjax.demo.items import Item, is_right, items
from muxjax.demo.run import demo_options, shipped
from muxjax.demo.worlds import WORLDS
from muxjax.server.background import in_background
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from muxjax.server.llms import LLMs
from muxjax.server.service import Service
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

ASKED = 100
CLIENTS = 24
ENOUGH_FRAC = 0.95
MOST_TOKENS = 24
CHUNK_TOKENS = 16
TIGHT_BLOCKS, TIGHT_BLOCK_BYTES = 400, 512
"""Room for about one long conversation, in blocks so small that every answer needs more of them while it grows."""

Question = tuple[str, Item]


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    """In turns for each model, none of them seen in training."""
    streams = {name: items(world, seed=11) for name, world in WORLDS.items()}
    return [(name, next(streams[name])) for _, name in zip(range(ASKED), _in_turns(list(streams)), strict=False)]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """Of an endpoint with ADBS and whole prompts."""
    with in_background(_service(policy="adbs"), HttpOptions(port=0)) as url:
        yield openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def test_over_http(client, questions):
    def ask(question: Question) -> str:
        name, item = question
        answer = client.chat.completions.create(model=name, messages=list(item.messages))
        assert answer.model == name
        return answer.choices[0].message.content

    assert _right_frac(questions, _at_once(ask, questions)) >= ENOUGH_FRAC


def test_streamed_over_http(client, questions):
    def ask(question: Question) -> str:
        name, item = question
        chunks = list(client.chat.completions.create(model=name, messages=list(item.messages), stream=True))
        assert len(chunks) > 2
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert _right_frac(questions, _at_once(ask, questions)) >= ENOUGH_FRAC


@pytest.mark.parametrize(
    "options",
    [{"policy": "round_robin"}, {"policy": "fcfs", "max_num_batched_tokens": CHUNK_TOKENS}],
    ids=["round robin, whole prompts", "fcfs, prompts in chunks"],
)
def test_from_python(questions, options):
    with _llms(_service(**options)) as llms:
        assert _right_frac(questions, _all(llms, questions)) >= ENOUGH_FRAC


def test_from_python_with_preemption(questions):
    tight = {"kv_cache_bytes": TIGHT_BLOCKS * TIGHT_BLOCK_BYTES, "block_bytes": TIGHT_BLOCK_BYTES}
    service = _service(policy="adbs", max_num_batched_tokens=CHUNK_TOKENS, **tight)
    with _llms(service) as llms:
        assert _right_frac(questions, _all(llms, questions, max_tokens=MOST_TOKENS)) >= ENOUGH_FRAC
        assert _preemptions(service) > 0


def test_another_models_answers_would_be_noticed(questions):
    """The right answers, each given to the question after next: of the same kind at times, but of another model."""
    answers = [item.answer for _, item in questions]
    assert _right_frac(questions, answers) == 1
    assert _right_frac(questions, answers[1:] + answers[:1]) < 0.05


def _service(**options) -> Service:
    options = {"compilation_cache_dir": str(XLA_CACHE), **options}
    with only_essential_programs():
        return build_service(dataclasses.replace(demo_options(shipped()), **options), report=lambda line: None, progress=False)


@contextlib.contextmanager
def _llms(service: Service) -> Iterator[LLMs]:
    with LLMs.over(service) as llms:
        yield llms


def _all(llms: LLMs, questions: Sequence[Question], **sampling: int) -> list[str]:
    return [answer.text for answer in llms.generate_pairs([(name, list(item.messages)) for name, item in questions], **sampling)]


def _at_once(ask, questions: Sequence[Question]) -> list[str]:
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(ask, questions))


def _right_frac(questions: Sequence[Question], answers: Sequence[str]) -> float:
    return sum(is_right(item, answer) for (_, item), answer in zip(questions, answers, strict=True)) / len(questions)


def _preemptions(service: Service) -> float:
    families = text_string_to_metric_families(service.metrics.exposition().decode())
    return sum(sample.value for family in families if family.name == "vllm:num_preemptions" for sample in family.samples)


def _in_turns(names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from names
