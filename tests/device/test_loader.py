"""What a loader refuses before it reads any weights."""

from dataclasses import dataclass, replace
from functools import partial

import pytest

from muxjax.buckets import BatchShape
from muxjax.device.loader import ModelLoader, next_less
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.errors import ConfigError
from muxjax.models.sharding import Devices
from muxjax.specs import published
from muxjax.specs.dummy import write_dummy_models


@dataclass(frozen=True)
class Chip:
    """All that a plan asks of a device."""

    device_kind: str
    core_count: int | None = None
    platform: str = "gpu"


@pytest.fixture
def two_models(tmp_path):
    path = write_dummy_models(tmp_path, {"m": published.BY_NAME["llama-3.2-1b"]})["m"]
    return tuple(ModelOptions(name=name, path=path, load_format="dummy") for name in "ab")


def plan(models, sm_shares, chip):
    options = UnitOptions(models=models, sm_shares=sm_shares)
    return ModelLoader.on(Devices((chip,)), options).plan(models[0])


def test_a_model_that_speculates_has_the_programs_of_any_other_unless_its_sequences_are_few(two_models):
    def shapes(sequences: int, drafts: int | None) -> list[BatchShape]:
        own = drafts and SpeculativeOptions(method="ngram", num_speculative_tokens=drafts)
        model = replace(two_models[0], max_num_seqs=sequences, speculative_config=own or None)
        loader = ModelLoader.on(Devices((Chip("NVIDIA H200", 132),)), UnitOptions(models=(model,)))
        return loader.needs(loader.plan(model)).shapes

    assert shapes(64, 4) == shapes(64, None) and shapes(256, 4) == shapes(256, None)
    most = [max(shape.decode_rows for shape in shapes(2, drafts)) for drafts in (4, None)]
    assert most == [16, 8]  # whole grains of ten rows, and of two


def test_heads_that_fill_no_word_of_the_cache_have_no_fp8_cache(tmp_path):
    spec = replace(published.BY_NAME["llama-3.2-1b"], head_dim=2)
    (model,) = (
        ModelOptions(name=name, path=path, load_format="dummy", kv_cache_dtype="fp8")
        for name, path in write_dummy_models(tmp_path, {"m": spec}).items()
    )
    loader = partial(ModelLoader.on, Devices((Chip("NVIDIA A100"),)))
    assert loader(UnitOptions(models=(model,))).plan(model).layout.tokens_per_block == 4096
    with pytest.raises(ConfigError, match="kv_cache_dtype must be auto for heads of 2, which is no multiple of the 4 bytes of float32"):
        loader(UnitOptions(models=(model,), kv_dtype="float32")).plan(model)


def test_latents_have_no_fp8_cache(tmp_path):
    (path,) = write_dummy_models(tmp_path, {"m": published.BY_NAME["deepseek-v2-lite"]}).values()
    model = ModelOptions(name="m", path=path, load_format="dummy", kv_cache_dtype="fp8")
    with pytest.raises(ConfigError, match="kv_cache_dtype must be auto for a model whose cache is of latents"):
        ModelLoader.on(Devices((Chip("NVIDIA A100"),)), UnitOptions(models=(model,))).plan(model)


def test_a_share_is_one_that_the_chips_kernel_has(two_models):
    assert plan(two_models, (96, 80), Chip("NVIDIA H200", 132)).name == "a"
    with pytest.raises(ConfigError, match="sm_shares may be some of 80, 96, 112 for a in bfloat16 on NVIDIA H200, got 100"):
        plan(two_models, (96, 100), Chip("NVIDIA H200", 132))
    with pytest.raises(ConfigError, match="got 132"):
        plan(two_models, (132,), Chip("NVIDIA H200"))
    with pytest.raises(ConfigError, match="got 96"):
        plan(two_models, (96,), Chip("NVIDIA H100 MIG", 90))


def test_a_chip_without_the_kernel_has_no_share(two_models):
    assert plan(two_models, (), Chip("NVIDIA A100")).name == "a"
    with pytest.raises(ConfigError, match="sm_shares must be none: no kernel keeps to a share for a in bfloat16 on NVIDIA A100, got 96"):
        plan(two_models, (96,), Chip("NVIDIA A100"))


@pytest.mark.parametrize(
    ("wish", "taken"), [(1.0, ()), (0.9, (112,)), (0.75, (96,)), (0.7, (80,)), (0.0, (80,))], ids=lambda value: str(value).strip("(),")
)
def test_a_wish_gets_the_next_less_that_there_are_programs_for(wish, taken):
    assert next_less((80, 96, 112, 132), wish) == taken
    assert next_less((60,), wish) == next_less((), wish) == ()


@pytest.mark.parametrize(("lanes", "kind", "shares"), [(2, "NVIDIA H200", {96}), (1, "NVIDIA H200", set()), (2, "NVIDIA A100", set())])
def test_a_wish_for_a_share_comes_true_where_it_can(two_models, lanes, kind, shares):
    a, b = two_models
    loader = ModelLoader.on(Devices((Chip(kind, 132),)), UnitOptions(models=(replace(a, prefill_share=0.8), b), lanes=lanes))
    programs = [{shape.sm_share for shape in loader.needs(loader.plan(model)).shapes} for model in loader.options.models]
    assert programs == [{None} | shares, {None}]
