"""Families and the page that tells of them."""

import json
import re
from pathlib import Path

import pytest

from muxjax.errors import ConfigError
from muxjax.specs.config import read_spec
from muxjax.specs.known_families import BARE, BY_ARCHITECTURE, BY_TYPE, FAMILIES
from muxjax.specs.with_pictures import WITH_PICTURES

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_names_every_family_that_is_served_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(each.architecture, each.model_type) for each in (*FAMILIES, *WITH_PICTURES.values())]


def test_no_two_families_have_a_name_in_common():
    assert len(BY_ARCHITECTURE) == len(BY_TYPE) == len(BARE) == len(FAMILIES)
    assert not BY_ARCHITECTURE.keys() & BARE.keys()


TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
MISTRAL3 = {
    **{"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "vision_config": {"depth": 2}},
    "text_config": {"model_type": "mistral", "vocab_size": 100, "max_position_embeddings": 64, "sliding_window": None, **TEXT},
}


def test_what_is_said_outside_of_the_text_model_holds_for_it(tmp_path):
    said = {"torch_dtype": "float16", "eos_token_id": [3, 4], "tie_word_embeddings": True}
    text = MISTRAL3["text_config"] | {"tie_word_embeddings": False, "eos_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL3 | said | {"text_config": text}))
    spec = read_spec(tmp_path)
    assert (spec.dtype, spec.eos_ids, spec.tied, spec.width) == ("float16", (3, 4), True, 64)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"model_type": "mistral"}, "model_type must be mistral3, got 'mistral'"),
        ({"text_config": {"model_type": "llama", **TEXT}}, "text_config: model_type must be mistral or ministral3, got 'llama'"),
        ({"text_config": 3}, "text_config must be an object"),
        ({"text_config": {"model_type": "mistral"}}, "vocab_size is missing"),
        ({"strange": 1}, "fields that are not known, and may change answers: strange = 1"),
        ({"text_config": MISTRAL3["text_config"] | {"strange": 1}}, "fields that are not known, and may change answers: strange = 1"),
    ],
)
def test_what_is_not_known_beside_pictures_is_refused(tmp_path, said, why):
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL3 | said))
    with pytest.raises(ConfigError, match=why):
        read_spec(tmp_path)
