"""Qwen 2, 2.5 and 3: windows from some layer on, biases of q, k and v in 2, norms of q and k in 3; and both with experts."""

from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import MOST_SIZE, Fields
from muxjax.specs.reading.experts import expert_count, sparse_layers, written_experts
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import FULL, SLIDING, first_window, layer_kinds, read_windows, same_window, window_of

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


_EXPERTS = {"num_experts": "count", "num_experts_per_tok": "per_token", "moe_intermediate_size": "ffn", "norm_topk_prob": "normed"}
_SHARED = {"shared_expert_intermediate_size": "shared_ffn"}


def _experts(fields: Fields, layers: int, *names: str, shared_ffn: int = 0) -> Experts:
    return Experts(
        count=expert_count(fields, *names),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("moe_intermediate_size", most=MOST_SIZE),
        layers=sparse_layers(fields, layers),
        shared_ffn=shared_ffn,
        shared_gate=shared_ffn > 0,
        normed=fields.flag("norm_topk_prob"),
    )


def _qwen2_moe(fields: Fields, layers: int) -> dict[str, Any]:
    shared_ffn = fields.integer("shared_expert_intermediate_size", most=MOST_SIZE)
    return {
        "windows": same_window(fields, layers, None, family="qwen2_moe"),
        "qkv_bias": fields.flag("qkv_bias"),
        "experts": _experts(fields, layers, "num_experts", shared_ffn=shared_ffn),
    }


def _qwen3_moe(fields: Fields, layers: int) -> dict[str, Any]:
    """All layers have a window, or none."""
    window = window_of(fields, _WINDOW) if fields.flag("use_sliding_window") else None
    return {
        "windows": same_window(fields, layers, window, family="qwen3_moe"),
        "qk_norm": "head",
        "experts": _experts(fields, layers, "num_experts", "num_local_experts"),
        **attention_biases(fields),
    }


def _written_qwen2_moe(spec: ModelSpec) -> dict[str, Any]:
    return {"qkv_bias": spec.qkv_bias, "mlp_only_layers": [*spec.dense_layers], **written_experts(spec, _EXPERTS | _SHARED)}


def _written_qwen3_moe(spec: ModelSpec) -> dict[str, Any]:
    window = first_window(spec)
    windows = {"sliding_window": window, "use_sliding_window": window is not None}
    return {**windows, "attention_bias": spec.qkv_bias, "mlp_only_layers": [*spec.dense_layers], **written_experts(spec, _EXPERTS)}


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
    variant=lambda fields, layers: {"windows": _windows(fields, layers, "qwen3"), "qk_norm": "head", **attention_biases(fields)},
    written=lambda spec: {**_written_windows(spec), "attention_bias": spec.qkv_bias},
    head_dim=128,
    needs_kv_heads=True,
    only={"mlp_bias": (False,), "use_qk_norm": (True,)},
)
QWEN2_MOE = Family(
    model_type="qwen2_moe",
    architecture="Qwen2MoeForCausalLM",
    variant=_qwen2_moe,
    written=_written_qwen2_moe,
    defaults={"qkv_bias": True},
    needs_kv_heads=True,
    only={"attention_bias": (True,), "mlp_bias": (False,), "use_qk_norm": (False,), "use_sliding_window": (False,)},
    harmless=("sliding_window", "max_window_layers"),
)
QWEN3_MOE = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    variant=_qwen3_moe,
    written=_written_qwen3_moe,
    needs_kv_heads=True,
    only={"mlp_bias": (False,), "use_qk_norm": (True,)},
    harmless=("sliding_window", "max_window_layers"),
)
