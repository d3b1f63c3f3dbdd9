"""Fields of generation_config.json, by what becomes of them here.

A checkpoint without that file may have them in config.json, where transformers looks for them then.

Source: the generation configuration of transformers 5.24 and what its `generate` makes of it.
"""

from collections.abc import Mapping

HONOURED = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "do_sample", "sequence_bias", "suppress_tokens", "bad_words_ids"),
    *("min_new_tokens", "min_length", "max_new_tokens", "stop_strings"),
)
"""Defaults of a request; see `server/sampling_defaults`. `eos_token_id` is honoured as well, in `eos`."""

HARMLESS: Mapping[str, tuple[str, ...]] = {
    "of beams, which num_beams asks for": ("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty", "low_memory"),
    "of sampled numbers: a softmax is the same": ("renormalize_logits", "remove_invalid_values"),
    "how many answers, how long in all, and what else is told: a request says so": (
        *("max_length", "num_return_sequences", "output_scores", "output_logits", "return_dict_in_generate"),
    ),
    "of how another program computes the same": (
        *("cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "compile_config", "disable_compile"),
        *("use_mtp", "continuous_batching_config"),
    ),
    "of a smaller model that guesses ahead": (
        *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
        *("prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind", "target_lookbehind"),
        *("assistant_ensemble_weight", "speculation_type"),
    ),
    "where it comes from": ("_from_model_config",),
}
"""Names by the reason why any value is served as it is."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "constraints": (),
    "force_words_ids": (),
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1,),
    "token_healing": (False,),
    "watermarking_config": (),
    "max_time": (),
}
"""Fields that change answers and are not honoured, and the values under which they change none; so does null."""
