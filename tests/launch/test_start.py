"""What a start refuses before it loads anything."""

import pytest

from muxjax.device.loader import ModelLoader
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import CheckpointError, ConfigError
from muxjax.launch.worker import start_worker
from muxjax.model_spec import ModelSpec
from muxjax.progress import Progress
from muxjax.specs.dummy import write_dummy_models

TINY = ModelSpec(vocab=64, width=64, layers=1, heads=2, kv_heads=2, head_dim=32, ffn=64, max_len=64, windows=(None,), dtype="float32")


def start(folder, *, load_format="auto", **options):
    """A start with a folder that has no weights, which is found when they are to be loaded."""
    path = write_dummy_models(folder, {"m": TINY})["m"]
    model = ModelOptions(name="m", path=path, load_format=load_format)
    return start_worker(UnitOptions(models=(model,), compilation_cache_dir="", **options), Progress(bars=False))


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


def test_a_cache_for_which_the_device_has_no_room_is_refused_and_not_tried_again(tmp_path, monkeypatch):
    def full(loader, total_blocks):
        raise MemoryError("cuMemAlloc_v2: the GPU has not so much memory in one piece")

    monkeypatch.setattr(ModelLoader, "make_arena", full)
    with pytest.raises(ConfigError, match=r"a cache of 1 MiB does not fit beside what 1 lane has taken .* lower kv_cache_size") as error:
        start(tmp_path, load_format="dummy", kv_cache_bytes=2**20)
    assert error.value.field == "kv_cache_bytes"
