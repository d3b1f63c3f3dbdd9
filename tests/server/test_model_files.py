import pytest
from tokenizers import Tokenizer, models

from muxjax.errors import ConfigError
from muxjax.server.config import named_options
from muxjax.server.model_files import ModelFiles, require_same_tokens
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.server.kit import spec


def test_a_draft_model_with_other_tokens_is_refused_and_one_with_more_of_them_is_not(tmp_path):
    def files(name: str, tokens: list[str]) -> ModelFiles:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        vocab = {token: place for place, token in enumerate(tokens)}
        Tokenizer(models.WordLevel(vocab, unk_token=tokens[0])).save(str(folder / "tokenizer.json"))
        (options,) = named_options({name: folder}, {"load_format": "dummy"}).models
        return ModelFiles.read(options)

    def require(one: ModelFiles, drafting: ModelFiles) -> None:
        require_same_tokens(one.options.name, one.tokenizer, drafting.options.name, drafting.tokenizer)

    big, same, more, other = files("big", ["a", "b"]), files("same", ["a", "b"]), files("more", ["a", "b", "c"]), files("other", ["a", "c"])
    for one, another in ((big, same), (big, more), (more, big)):
        require(one, another)
    with pytest.raises(ConfigError, match="other cannot draft for big: 2 of their tokens differ, such as 'b'; a draft model has the same"):
        require(big, other)


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
