import json

import pytest

from muxjax.errors import RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.http.routes.tokenize import info_of, text_of, tokens_of
from tests.server.http.test_app import HELLO, ask
from tests.server.kit import BOS, EOS, VOCAB, served, spec


def test_a_text_and_its_tokens_go_round(server, tokenizer):
    status, _, content = ask(server, "POST", "/tokenize", {"model": "a", "prompt": "the cat", "add_special_tokens": False})
    told = json.loads(content)
    assert status == 200
    assert told == {
        "count": len(told["tokens"]),
        "max_model_len": 100,
        "tokens": list(tokenizer.encode("the cat", special=False)),
        "token_strs": None,
    }
    _, _, content = ask(server, "POST", "/detokenize", {"model": "a", "tokens": told["tokens"]})
    assert json.loads(content) == {"prompt": "the cat"}


def test_tokens_of_a_chat_are_those_that_the_chat_would_have(server, catalog):
    server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=1)
    assert tuple(tokens_of({"model": "a", "messages": HELLO}, catalog)["tokens"]) == server.engine.submitted[0].prompt
    shorter = tokens_of({"model": "a", "messages": HELLO, "add_generation_prompt": False}, catalog)
    assert shorter["count"] < len(server.engine.submitted[0].prompt)


def test_special_tokens_are_added_and_shown(catalog):
    told = tokens_of({"model": "a", "prompt": "cat", "return_token_strs": True}, catalog)
    assert (told["tokens"][0], told["token_strs"][0]) == (BOS, "<s>")
    assert text_of({"model": "a", "tokens": [BOS, EOS]}, catalog) == {"prompt": "<s></s>"}
    assert text_of({"model": "a", "tokens": []}, catalog) == {"prompt": ""}


def test_the_model_may_be_left_out_where_there_is_one(catalog, tokenizer):
    assert tokens_of({"prompt": ""}, Catalog([served(tokenizer, "only")]))["count"] == 1
    with pytest.raises(RequestError, match="model is required"):
        tokens_of({"prompt": ""}, catalog)


def test_a_query_without_a_model_is_for_the_only_one_or_told_how_to_name_it(server, tokenizer):
    status, _, content = ask(server, "GET", "/tokenizer_info")
    error = json.loads(content)["error"]
    assert (status, error["param"]) == (400, "model")
    assert error["message"] == "model is required, one of org/a, a, plain: say /tokenizer_info?model=NAME"
    server.service.catalog = Catalog([served(tokenizer, "only")])
    assert ask(server, "GET", "/tokenizer_info")[0] == 200
    assert ask(server, "GET", "/tokenizer_info?model=none")[0] == 404


def test_a_token_that_the_model_has_no_row_for_is_refused_as_in_a_prompt(tokenizer):
    most = max(tokenizer.encode("the cat", special=False))
    assert tokens_of({"prompt": "the cat"}, Catalog([served(tokenizer, "a", spec=spec(most + 1))]))["count"] > 1
    with pytest.raises(RequestError, match=f"Token {most}") as error:
        tokens_of({"prompt": "the cat"}, Catalog([served(tokenizer, "a", spec=spec(most))]))
    assert (error.value.param, error.value.status) == ("prompt", 400)


@pytest.mark.parametrize(
    ("call", "body", "param"),
    [
        (tokens_of, {}, "prompt"),
        (tokens_of, {"prompt": [5]}, "prompt"),
        (tokens_of, {"messages": []}, "messages"),
        (text_of, {}, "tokens"),
        (text_of, {"tokens": [VOCAB]}, "tokens"),
        (text_of, {"tokens": "a"}, "tokens"),
    ],
)
def test_what_cannot_be_read_is_named(catalog, call, body, param):
    with pytest.raises(RequestError) as error:
        call({"model": "a", **body}, catalog)
    assert error.value.param == param


def test_a_tokenizer_describes_itself(server, tokenizer):
    status, _, content = ask(server, "GET", "/tokenizer_info?model=a")
    assert status == 200
    assert json.loads(content)["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert json.loads(content)["chat_template"].startswith("{{ bos_token }}")
    own = served(tokenizer, "b", template=None, tokenizer_config={"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"})
    assert info_of(own) == {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}
    assert ask(server, "GET", "/tokenizer_info")[0] == 400
    assert ask(server, "GET", "/tokenizer_info?model=none")[0] == 404
