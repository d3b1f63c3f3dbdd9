"""Mistral, Ministral and Mixtral: a window in all layers, in none, or in those that layer_types names; queries that grow with their
positions in Ministral 3, experts in Mixtral."""

from dataclasses import replace
from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.experts import expert_count, written_experts
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import FULL, SLIDING, first_window, layer_kinds, read_windows, same_window, window_of

_WINDOW = 4096
_GROWING = {
    **{"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16384},
    **{"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
}
"""Of Ministral 3."""
_ONLY = {"use_sliding_window": (False,), "attention_bias": (False,), "mlp_bias": (False,), "use_qk_norm": (False,)}


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    """transformers 5 takes a Mistral with layer_types for a Ministral."""
    window = window_of(fields, _WINDOW)
    usual = [FULL if window is None else SLIDING] * layers
    return {"windows": read_windows(fields, layers, window, usual, family="mistral")}


def _written(spec: ModelSpec) -> dict[str, Any]:
    mixed = {"layer_types": layer_kinds(spec)} if len(set(spec.windows)) > 1 else {}
    return {"sliding_window": first_window(spec), **mixed}


def _mixtral(fields: Fields, layers: int) -> dict[str, Any]:
    experts = Experts(
        count=expert_count(fields, "num_local_experts", "num_experts"),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("intermediate_size"),
        layers=tuple(range(layers)),
    )
    return {"windows": same_window(fields, layers, window_of(fields, None), family="mixtral"), "experts": experts, "naming": "mixtral"}


def _written_mixtral(spec: ModelSpec) -> dict[str, Any]:
    return {
        "sliding_window": first_window(spec),
        **written_experts(spec, {"num_local_experts": "count", "num_experts_per_tok": "per_token"}),
    }


def _family(name: str) -> Family:
    return Family(
        model_type=name.lower(),
        architecture=f"{name}ForCausalLM",
        variant=_variant,
        written=_written,
        needs_kv_heads=True,
        eos=(2,),
        only=_ONLY,
        harmless=("max_window_layers",),
    )


MISTRAL, MINISTRAL = _family("Mistral"), _family("Ministral")
MINISTRAL3 = replace(
    _family("Ministral3"),
    defaults={"rms_norm_eps": 1e-5, "head_dim": 128, "rope_parameters": _GROWING},
    rope_theta=1e6,
    rope_types={"yarn": "yarn"},
    grows_queries=True,
)
MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    variant=_mixtral,
    written=_written_mixtral,
    defaults={"rms_norm_eps": 1e-5},
    rope_theta=1e6,
    needs_kv_heads=True,
    eos=(2,),
    only=_ONLY,
    harmless=("max_window_layers",),
)
