"""Fields of config.json that are not read, and why they change no answer. What stands in no list of this file or its family is refused.

Source: the configuration and modelling code of transformers 5.24, which computes the same with and without them.
"""

from collections.abc import Mapping

from muxjax.errors import ConfigError
from muxjax.specs import generation_fields
from muxjax.specs.fields import Fields, shorten
from muxjax.specs.reading.family import Family

HARMLESS: Mapping[str, tuple[str, ...]] = {
    "where the checkpoint comes from": (
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "unsloth_version", "unsloth_fixed", "is_llama_config"),
        "transformers.js_config",
    ),
    "of the tokenizer; ids that end an answer are read": (
        *("bos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "unk_token_id", "mask_token_id", "decoder_start_token_id"),
        *("tokenizer_class", "processor_class", "prefix"),
    ),
    "of training, where weights begin or parts are dropped": (
        *("attention_dropout", "hidden_dropout", "dropout", "embd_pdrop", "resid_pdrop", "attn_pdrop", "embedding_dropout"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "initializer_range", "initializer_factor"),
        *("gradient_checkpointing", "neftune_noise_alpha", "loss_type"),
        *("router_aux_loss_coef", "router_z_loss_coef", "router_jitter_noise"),
    ),
    "of how another program computes the same, or what it returns": (
        *(
            "use_cache",
            "return_dict",
            "torchscript",
            "use_bfloat16",
            "tf_legacy_loss",
            "output_attentions",
            "output_hidden_states",
            "output_router_logits",
        ),
        *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset"),
        *("use_flash_attn", "use_flash_attention", "use_flash_attention_2", "_flash_attn_2_enabled", "pretraining_tp"),
        *("chunk_size_feed_forward", "tie_last_hidden_states", "is_decoder", "tie_encoder_decoder"),
    ),
    "of heads for other tasks": ("problem_type", "num_labels", "id2label", "label2id", "finetuning_task", "task_specific_params"),
    "lengths that only say what the model was trained on": (
        *("max_sequence_length", "model_max_length", "max_seq_len", "seq_length", "original_max_position_embeddings"),
    ),
    "of generation, which says nothing of the model; see `server/sampling_defaults`": (
        *(*generation_fields.HONOURED, *generation_fields.NEUTRAL),
        *(name for names in generation_fields.HARMLESS.values() for name in names),
    ),
}
"""Names by the reason why any value does."""

ONLY: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),
    "is_causal": (True,),
    "use_bidirectional_attention": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "partial_rotary_factor": (1,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "logit_scale": (1,),
    "clip_qkv": (),
    "pruned_heads": ({},),
    "per_layer_config": (),
    "auto_map": (),
}
"""Fields that change the maths, and the values under which they do not; absent or null is right for each. Families add to them."""

_WHY: Mapping[str, str] = {
    "auto_map": "code of a checkpoint's own is not run: give a checkpoint of the model that is in the form of transformers",
}
"""What to do about a field of `ONLY`, beside leaving it out."""

NAMES = frozenset(name for names in HARMLESS.values() for name in names)
"""All of `HARMLESS`."""


def check_values(fields: Fields, family: Family) -> None:
    """
    Raises:
      ConfigError: a field that changes the maths has a value that is not served.
    """
    for name, right in {**ONLY, **family.only}.items():
        if name not in family.reads:
            check_only(fields, name, right)


def check_only(fields: Fields, name: str, right: tuple[object, ...]) -> None:
    """
    Raises:
      ConfigError: the field is there, and its value is none of those that are right.
    """
    value = fields.get(name)
    if value is None or is_one_of(value, right):
        return
    if right:
        raise fields.wrong(name, value, " or ".join([*map(repr, right), "left out"]))
    why = _WHY.get(name, "no model that needs it is served")
    raise ConfigError(f"{fields.where}: {name}={shorten(value)} is not supported: {why}", field=name)


def is_one_of(value: object, right: tuple[object, ...]) -> bool:
    """A flag is no number."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in right)


def unknown_names(fields: Fields, family: Family) -> list[str]:
    """Fields with a value that nobody has read so far, and that are not known to be harmless."""
    harmless = NAMES.union(family.harmless)
    return [name for name in fields.never_asked() if name not in harmless]
