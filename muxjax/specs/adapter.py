"""adapter_config.json of a LoRA adapter, as peft writes it.

Source for the meaning of fields: `LoraConfig` of peft 0.21, and what `LoraLayer` and `LoraModel` do with it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.folders import require_folder, require_no_pointer
from muxjax.specs.known_fields import check_only

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_ONLY: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", "FEATURE_EXTRACTION"),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "eva"),
    "layer_replication": ([],),
    **dict.fromkeys(("fan_in_fan_out", "use_dora", "use_qalora", "use_bdlora", "lora_bias"), (False,)),
    **dict.fromkeys(("modules_to_save", "trainable_token_indices", "alora_invocation_tokens", "target_parameters"), ([],)),
    **dict.fromkeys(("rank_pattern", "alpha_pattern", "arrow_config", "kasa_config", "velora_config", "monteclora_config"), ({},)),
}
"""Fields that ask for more than a product of two matrices beside each, or that change the base; and values under which they do not."""
_HARMLESS = (
    *("auto_mapping", "base_model_name_or_path", "revision", "peft_version", "inference_mode", "runtime_config"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),  # the tensors say it
    *("lora_dropout", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "ensure_weight_tying"),
    *("megatron_config", "megatron_core"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """What an adapter adds to a product x W: x A B times `scale`, with A and B of that rank."""

    rank: int
    scale: float


def read_adapter_config(folder: Path, *, most_rank: int) -> AdapterConfig:
    """The configuration of an adapter's folder.

    Raises:
      ConfigError: there is none, or it asks for something not supported; it names file, field, value and choice.
      CheckpointError: the file is a pointer of git-lfs.
    """
    require_folder(folder, f"the adapter's {CONFIG}")
    path = folder / CONFIG
    if not path.exists():
        raise ConfigError(f"{path} does not exist: a LoRA adapter as peft writes it has one, beside {WEIGHTS}", field="path")
    require_no_pointer(path)
    fields = Fields.load(path)
    for name, right in _ONLY.items():
        check_only(fields, name, right)
    rank, alpha = fields.integer("r"), fields.number("lora_alpha")
    if rank > most_rank:
        raise fields.wrong("r", rank, f"at most max_lora_rank={most_rank} of the model")
    scale = alpha / (math.sqrt(rank) if fields.flag("use_rslora") else rank)
    if unknown := [name for name in fields.never_asked() if name not in _HARMLESS]:
        raise ConfigError(f"{path} has fields that are not known, so that answers could be wrong: {', '.join(unknown)}", field=unknown[0])
    return AdapterConfig(rank=rank, scale=scale)


def adapter_params(spec: ModelSpec, rank: int) -> int:
    """Number of parameters of an adapter of that rank over a model or a share of one, beside all matrices that may have one."""
    q_width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    apart, read = 1 if spec.qkv_by_group else 3, 2 if spec.is_gated else 1  # matrices of q, k and v, and of what the MLP reads: an A each
    attention = apart * spec.width + q_width + 2 * kv_width + q_width + spec.width
    if spec.latent:  # the output alone
        attention = spec.heads * spec.latent.value + spec.width
    mlp = read * (spec.width + spec.ffn) + spec.ffn + spec.width
    return rank * (spec.layers * attention + len(spec.dense_layers) * mlp)
