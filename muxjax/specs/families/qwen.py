"""Qwen 2, 2.5 and 3, dense: windows from some layer on, biases of q, k and v in 2, norms of q and k in 3."""

from typing import Any

from muxjax.specs.families.family import Family, attention_biases
from muxjax.specs.families.windows import FULL, SLIDING, first_window, layer_kinds, read_windows, window_of
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec

_WINDOW, _FIRST_WINDOWED = 4096, 28


def _windows(fields: Fields, layers: int, family: str) -> tuple[int | None, ...]:
    window = window_of(fields, _WINDOW)
    used, first = fields.flag("use_sliding_window"), fields.get("max_window_layers", _FIRST_WINDOWED)
    if not isinstance(first, int) or first < 0:
        raise fields.wrong("max_window_layers", first, "a whole number")
    window = window if used else None
    usual = [FULL if window is None or layer < first else SLIDING for layer in range(layers)]
    return read_windows(fields, layers, window, usual, family=family)


def _written_windows(spec: ModelSpec) -> dict[str, Any]:
    window = first_window(spec)
    return {"sliding_window": window, "use_sliding_window": window is not None, "layer_types": layer_kinds(spec)}


QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    variant=lambda fields, layers: {"windows": _windows(fields, layers, "qwen2"), "qkv_bias": True},
    written=_written_windows,
    needs_kv_heads=True,
    only={"attention_bias": (True,), "mlp_bias": (False,), "use_qk_norm": (False,)},
)
QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    variant=lambda fields, layers: {"windows": _windows(fields, layers, "qwen3"), "qk_norm": True, **attention_biases(fields)},
    written=lambda spec: {**_written_windows(spec), "attention_bias": spec.qkv_bias},
    head_dim=128,
    needs_kv_heads=True,
    only={"mlp_bias": (False,), "use_qk_norm": (True,)},
)
