"""What ends an answer: every id that a file names and that can come."""

import json
import logging

import pytest

from muxjax.errors import ConfigError
from muxjax.specs.config import read_spec
from tests.specs.test_config import LLAMA
from tests.specs.test_tokens import write


@pytest.fixture
def eos_ids(tmp_path):
    def read(config, generation=None, tokenizer=None):
        write(tmp_path, {"config.json": LLAMA | config, "tokenizer_config.json": tokenizer or {}})
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(json.dumps(generation))
        return read_spec(tmp_path).eos_ids

    return read


def test_an_id_without_a_row_is_left_out_with_a_warning(eos_ids, caplog):
    with caplog.at_level(logging.WARNING):
        assert eos_ids({"eos_token_id": 1}, {"eos_token_id": [1, 99999, 127, 128]}) == (1, 127)
    assert "generation_config.json: end-of-sequence token 99999 is left out, as the vocabulary has 128 tokens" in caplog.text
    assert caplog.text.count("left out") == 2


def test_the_tokenizers_own_end_ends_too(eos_ids):
    assert eos_ids({"eos_token_id": 1}, tokenizer={"eos_token": "</s>"}) == (1, 100)
    assert eos_ids({"eos_token_id": None}, tokenizer={"eos_token": "</s>"}) == (100,)
    assert eos_ids({"eos_token_id": 100}, {"eos_token_id": [2, 100]}, {"eos_token": "</s>"}) == (100, 2)


def test_a_negative_id_names_no_token(eos_ids):
    assert eos_ids({"eos_token_id": -1}, {"eos_token_id": [-1, 3]}) == (3,)


def test_what_is_no_id_is_refused(eos_ids):
    with pytest.raises(ConfigError, match=r"eos_token_id must be a token id or a list of them, got \['a'\]"):
        eos_ids({"eos_token_id": ["a"]})
