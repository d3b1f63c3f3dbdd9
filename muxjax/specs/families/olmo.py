"""OLMo 2 and 3: norms of what attention and MLP add instead of what they read, and of all queries and all keys together; windows in 3."""

from typing import Any

from muxjax.specs.families.family import Family, attention_biases
from muxjax.specs.families.windows import NO_WINDOW, every, local_theta, read_windows, same_window, window_of, written_windows
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec

_WINDOW, _PATTERN, _THETA = 4096, 4, 500000.0


def _norms(fields: Fields) -> dict[str, Any]:
    return {"projection_norm": True, "pre_norms": False, "post_norms": True, **attention_biases(fields)}


def _olmo2(fields: Fields, layers: int) -> dict[str, Any]:
    return {"windows": same_window(fields, layers, None, family="olmo2"), **_norms(fields)}


def _olmo3(fields: Fields, layers: int) -> dict[str, Any]:
    theta = fields.number("rope_theta", _THETA)
    if theta != _THETA and not fields.child("rope_parameters").values:  # transformers 5 takes it for layers without a window only
        raise fields.wrong("rope_theta", theta, f"{_THETA} where rope_parameters do not give each kind of layer its own")
    return {
        "windows": read_windows(fields, layers, window_of(fields, _WINDOW), every(_PATTERN, layers), family="olmo3"),
        "local_rope_theta": local_theta(fields, _THETA),
        **_norms(fields),
    }


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"attention_bias": spec.qkv_bias}


def _written_windows(spec: ModelSpec) -> dict[str, Any]:
    return {**_written(spec), **written_windows(spec)}


OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    variant=_olmo2,
    written=_written,
    defaults={"rms_norm_eps": 1e-5},
    eos=(50279,),
    only={**NO_WINDOW, "mlp_bias": (False,)},
)
OLMO3 = Family(
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    variant=_olmo3,
    written=_written_windows,
    defaults={"rms_norm_eps": 1e-5},
    eos=(50279,),
    only={"use_sliding_window": (True,), "mlp_bias": (False,)},
    rope_theta=_THETA,
    rope_by_kind=True,
)
