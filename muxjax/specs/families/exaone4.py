"""LG's EXAONE 4: norms of what attention and MLP add and of each q and k head; with windows, layers without one are not rotated."""

from typing import Any

from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import FULL, every, read_windows, window_of, written_windows

_WINDOW, _PATTERN = 4096, 4


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    window = window_of(fields, _WINDOW)
    windows = read_windows(fields, layers, window, _usual(fields, layers, window), family="exaone4")
    return {
        "windows": windows,
        "unrotated": () if window is None else tuple(layer for layer in range(layers) if windows[layer] is None),
        "qk_norm": "head",
        "pre_norms": False,
        "post_norms": True,
    }


def _usual(fields: Fields, layers: int, window: int | None) -> list[str]:
    """By `sliding_window_pattern`, a number, or any text beside `layer_types`."""
    pattern = fields.get("sliding_window_pattern", _PATTERN)
    if window is None or fields.get("layer_types") is not None:
        return [FULL] * layers
    if not isinstance(pattern, int) or pattern < 1:
        raise fields.wrong("sliding_window_pattern", pattern, "a whole number over 0 where there are no layer_types")
    return every(pattern, layers)


EXAONE4 = Family(
    model_type="exaone4",
    architecture="Exaone4ForCausalLM",
    variant=_variant,
    written=written_windows,
    defaults={"rms_norm_eps": 1e-5},
    needs_kv_heads=True,
    eos=(2,),
    only={"use_sliding_window": (True,), "attention_bias": (False,), "mlp_bias": (False,), "use_qk_norm": (True,)},
)
