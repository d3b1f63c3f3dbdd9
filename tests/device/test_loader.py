"""What a loader refuses before it reads any weights."""

from dataclasses import dataclass

import pytest

from muxjax.device.loader import ModelLoader
from muxjax.engine.options import ModelOptions, UnitOptions
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
