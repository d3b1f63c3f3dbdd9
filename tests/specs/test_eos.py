"""What ends an answer: every id that a file names and that can come."""

import json
import logging

import pytest

from muxjax.errors import ConfigError
from muxjax.specs.config import read_spec
from muxjax.specs.known_families import FAMILIES
from tests.specs.test_config import LLAMA, MISTRAL, QWEN2, without
from tests.specs.test_tokens import write


@pytest.fixture
def eos_ids(tmp_path):
    def read(config, generation=None, tokenizer=None, base=LLAMA):
        write(tmp_path, {"config.json": base | config, "tokenizer_config.json": tokenizer or {}})
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


@pytest.mark.parametrize(("base", "ids"), [(LLAMA, (2,)), (MISTRAL, (2,)), (QWEN2, ())])
def test_a_config_that_does_not_say_has_the_default_of_its_class(eos_ids, base, ids):
    silent = without(base, "eos_token_id")
    assert eos_ids({}, base=silent) == ids
    assert eos_ids({}, {}, base=silent) == ids
    assert eos_ids({"vocab_size": 2}, base=silent) == ()


def test_whatever_names_an_end_stands_above_the_default_of_a_class(eos_ids):
    silent = without(LLAMA, "eos_token_id")
    assert eos_ids({}, tokenizer={"eos_token": "</s>"}, base=silent) == (100,)  # 2 may be any word of that vocabulary
    assert eos_ids({"eos_token_id": None}, base=silent) == eos_ids({"eos_token_id": -1}, base=silent) == ()
    assert eos_ids({}, {"eos_token_id": None}, base=silent) == ()
    assert eos_ids({}, {"eos_token_id": 5}, base=silent) == (5,)


def test_the_defaults_are_those_of_the_classes_of_transformers():
    transformers = pytest.importorskip("transformers")
    known = [family for family in FAMILIES if family.model_type in transformers.CONFIG_MAPPING]
    assert [family.model_type for family in FAMILIES if family not in known] == ["internlm2"]  # whose code lies beside its weights
    for family in known:
        theirs = transformers.AutoConfig.for_model(family.model_type).eos_token_id
        assert family.eos == tuple(theirs if isinstance(theirs, list) else [] if theirs is None else [theirs]), family.model_type
