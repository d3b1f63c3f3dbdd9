"""How a checkpoint says that it is for embeddings."""

import json

import pytest

from muxjax.errors import ConfigError
from muxjax.specs.pooling import read_pooling
from muxjax.types import Pooling

OFF = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "include_prompt": True}


@pytest.mark.parametrize(
    ("values", "pooling"),
    [
        ({**OFF, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, Pooling.LAST),
        ({**OFF, "pooling_mode_mean_tokens": True}, Pooling.MEAN),
        ({"pooling_mode": "lasttoken"}, Pooling.LAST),
        ({"pooling_mode": "mean"}, Pooling.MEAN),
    ],
)
def test_sentence_transformers_folders_say_it(tmp_path, values, pooling, caplog):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(values))
    assert read_pooling(tmp_path) is pooling and not caplog.records
    assert read_pooling(tmp_path, "mean") is Pooling.MEAN


@pytest.mark.parametrize(
    "values", [{}, {"pooling_mode_cls_token": True}, {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": True}]
)
def test_another_way_is_none_and_told(tmp_path, values, caplog):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(values))
    assert read_pooling(tmp_path) is None and "no embeddings" in caplog.text


def test_other_folders_are_for_none_unless_it_is_chosen(tmp_path):
    assert read_pooling(tmp_path) is None and read_pooling(tmp_path, "last") is Pooling.LAST
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("[")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read_pooling(tmp_path)
