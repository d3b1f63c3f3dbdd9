"""`/v1/embeddings`, by OpenAI's client and by whatever else comes."""

import base64
import json
import struct

import numpy as np
import openai
import pytest

from muxjax.server.catalog import Catalog
from muxjax.server.embeddings.request import MOST_INPUTS
from muxjax.types import Pooling
from tests.fakes import fake_hidden
from tests.server.http.test_app import ask
from tests.server.kit import VOCAB, served

WIDTH = 8


@pytest.fixture
def embedder(server, tokenizer):
    """The server of "a", which pools its last token, and of "plain", which makes none."""
    server.service.catalog = Catalog([served(tokenizer, "org/a", aliases=("a",), pooling=Pooling.LAST), served(tokenizer, "plain")])
    return server


def expected(tokens, dimensions: int = WIDTH) -> np.ndarray:
    hidden = np.array(struct.unpack(f"<{WIDTH}f", fake_hidden(tokens)))[:dimensions]
    return hidden / np.linalg.norm(hidden)


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_openais_client_gets_an_embedding_for_each_input(embedder, tokenizer, form):
    texts = ["the cat", "the dog sat"]
    answer = embedder.client.embeddings.create(model="a", input=texts, user="me", **form)
    tokens = [tokenizer.encode(text, special=True) for text in texts]
    assert [entry.index for entry in answer.data] == [0, 1] and answer.object == "list" and answer.model == "a"
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (sum(map(len, tokens)),) * 2
    for entry, each in zip(answer.data, tokens, strict=True):
        told = np.frombuffer(base64.b64decode(entry.embedding), "<f4") if isinstance(entry.embedding, str) else entry.embedding
        np.testing.assert_allclose(told, expected(each), rtol=1e-6)
    (first, second) = embedder.engine.submitted
    assert first.sampling.pooling is Pooling.LAST and first.sampling.max_tokens == 1 and second.prompt == tokens[1]


@pytest.mark.parametrize(("given", "prompts"), [("the", 1), ([5, 6, 7], 1), ([[5, 6], [7]], 2), (["the", [7]], 2), ([[7]] * 70, 70)])
def test_inputs_are_texts_or_tokens(embedder, given, prompts):
    status, _, content = ask(embedder, "POST", "/v1/embeddings", {"model": "a", "input": given})
    data = json.loads(content)["data"]
    assert status == 200 and len(data) == prompts == len(embedder.engine.submitted)
    if given == [5, 6, 7]:
        np.testing.assert_allclose(data[0]["embedding"], expected((5, 6, 7)), rtol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 3, WIDTH])
def test_fewer_dimensions_are_the_first_ones_at_unit_length(embedder, dimensions):
    answer = embedder.client.embeddings.create(model="a", input=[5, 6, 7], dimensions=dimensions)
    np.testing.assert_allclose(answer.data[0].embedding, expected((5, 6, 7), dimensions), rtol=1e-6)
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": 5}, "input"),
        ({"input": [None]}, "input"),
        ({"input": [VOCAB]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [[1.5]]}, "input"),
        ({"input": "", "add_special_tokens": False}, "input"),
        ({"input": [[1]] * (MOST_INPUTS + 1)}, "input"),
        ({"input": [[1] * 100]}, "input"),
        ({"input": "the " * 500}, "input"),
        ({"input": "\ud800"}, None),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "encoding_format": 5}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": WIDTH + 1}, "dimensions"),
        ({"input": "a", "dimensions": "8"}, "dimensions"),
        ({"input": "a", "priority": 1000}, "priority"),
        ({"input": "a", "cache_salt": 5}, "cache_salt"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ],
)
def test_bad_input_is_refused_by_name_before_anything_is_computed(embedder, body, param):
    status, _, content = ask(embedder, "POST", "/v1/embeddings", {"model": "a", **body})
    error = json.loads(content)["error"]
    assert status == 400 and error["type"] == "invalid_request_error" and len(error["message"]) <= 480
    assert param is None or error["param"] == param
    assert embedder.engine.submitted == []


def test_a_model_that_makes_none_says_how_it_would(embedder):
    with pytest.raises(openai.BadRequestError, match="`plain` makes no embeddings: it is started for that with `pooling: last`") as error:
        embedder.client.embeddings.create(model="plain", input="the")
    assert (error.value.param, error.value.code) == ("model", "unsupported_value")
    with pytest.raises(openai.NotFoundError):
        embedder.client.embeddings.create(model="none", input="the")


def test_the_beginning_of_a_text_may_be_cut_off(embedder, tokenizer):
    embedder.client.embeddings.create(model="a", input="the cat sat", extra_body={"truncate_prompt_tokens": 2})
    assert embedder.engine.submitted[0].prompt == tokenizer.encode("the cat sat", special=True)[-2:]


def test_metrics_count_their_prompts_and_no_generated_token(embedder):
    embedder.client.embeddings.create(model="a", input=[[5, 6, 7], [8]])
    _, _, content = ask(embedder, "GET", "/metrics")
    counts = dict(line.rsplit(" ", 1) for line in content.decode().splitlines() if "_tokens_total{" in line)
    assert counts['vllm:prompt_tokens_total{model_name="org/a"}'] == "4.0"
    assert counts.get('vllm:generation_tokens_total{model_name="org/a"}', "0.0") == "0.0"
