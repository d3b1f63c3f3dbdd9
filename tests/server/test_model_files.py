import pytest

from muxjax.errors import ConfigError
from muxjax.server.config import named_options
from muxjax.server.model_files import ModelFiles
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.server.kit import spec


def test_a_missing_tokenizer_is_named_unless_weights_are_random(tmp_path):
    (real,) = named_options({"a": tmp_path}, {}).models
    with pytest.raises(ConfigError, match=r"model a: .*config\.json does not exist: a Hugging Face or Orbax folder has one"):
        ModelFiles.read(real)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"model a: .*tokenizer\.json is missing"):
        ModelFiles.read(real)
    (dummy,) = named_options({"a": tmp_path}, {"load_format": "dummy"}).models
    (served,) = ModelFiles.read(dummy).served(spec(), max_model_len=10, created=1)
    assert isinstance(served.tokenizer, ByteTokenizer)
