"""What a start refuses before it loads anything."""

import json

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import CheckpointError, ConfigError
from muxjax.launch.worker import start_worker

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "float32",
}


def start(folder, **options):
    """A start with a folder that has no weights, which is found when they are to be loaded."""
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return start_worker(UnitOptions(models=(ModelOptions(name="m", path=folder),), compilation_cache_dir="", **options), progress=False)


def test_a_cache_larger_than_the_machine_is_refused_before_weights_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"weights and tables and a cache of 1024 TiB are more than the .* that muxjax may use") as error:
        start(tmp_path, kv_cache_bytes=2**50)
    assert error.value.field == "kv_cache_bytes"


def test_weights_larger_than_the_memory_to_be_used_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"weights and tables are more than the 1 KiB that muxjax may use"):
        start(tmp_path, memory_bytes=1024)


def test_a_cache_that_fits_is_not_what_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="weights"):
        start(tmp_path, kv_cache_bytes=2**20, memory_bytes=2**24)
