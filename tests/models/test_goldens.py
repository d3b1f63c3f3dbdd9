"""Our decoder against what transformers computed, for every family; and each comparison notices a small mistake."""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import Params
from muxjax.models.tree import flat, nested
from tests.models.golden import FOLDER, NAMES, dense_logits, load_golden, read_golden, worst_row

LIMIT = 1e-5
"""The worst row measured was 1.8e-6."""

MOE = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "granitemoeshared", "glm4_moe", "gpt_oss", "deepseek_v2", "deepseek_v3")
DENSE = tuple(name for name in NAMES if name not in MOE)
GATED = tuple(name for name in DENSE if name != "starcoder2")
NOT_NORMED = ("qwen2_moe", "olmoe", "deepseek_v2")
LATENT = ("deepseek_v2", "deepseek_v3")
IN_ORDER = tuple(name for name in NAMES if name != "internlm2" and name not in LATENT)
"""Goldens whose q, k and v lie one behind the other."""

Mistake = Callable[[ModelSpec, Params], tuple[ModelSpec, Params]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Loads a golden's model, each once."""
    loaded: dict[str, tuple[ModelSpec, Params]] = {}

    def get(name: str) -> tuple[ModelSpec, Params]:
        if name not in loaded:
            loaded[name] = load_golden(name, tmp_path_factory.mktemp(name))
        return loaded[name]

    return get


def error(name: str, spec: ModelSpec, params: Params) -> float:
    golden = read_golden(name)
    return worst_row(dense_logits(spec, params, golden.longest)[golden.positions], golden.logits)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(model, name):
    assert error(name, *model(name)) < LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_are_those_of_transformers_up_to_the_maximum_length(model, name):
    """Given the expected tokens, the most likely one after each prefix is the next: so greedy decoding makes them all."""
    spec, params = model(name)
    golden = read_golden(name)
    assert len(golden.longest) == spec.max_len
    for prompt, tokens in zip(golden.prompts, golden.tokens, strict=True):
        assert len(tokens) >= 64
        best = dense_logits(spec, params, prompt + tokens).argmax(-1)
        assert tuple(best[len(prompt) - 1 : -1].tolist()) == tokens


def change_spec(**changes) -> Mistake:
    return lambda spec, params: (replace(spec, **changes), params)


def change_scaling(**changes) -> Mistake:
    return lambda spec, params: (replace(spec, rope_scaling=replace(spec.rope_scaling, **changes)), params)


def change_experts(**changes) -> Mistake:
    return lambda spec, params: (replace(spec, experts=replace(spec.experts, **changes)), params)


def move_windows(by: int) -> Mistake:
    return lambda spec, params: (replace(spec, windows=tuple(window and window + by for window in spec.windows)), params)


def swap(one: str, other: str) -> Mistake:
    def swapped(spec: ModelSpec, params: Params) -> tuple[ModelSpec, Params]:
        leaves = flat(params)
        return spec, nested(leaves | {one: leaves[other], other: leaves[one]})

    return swapped


def edit(path: str, change: Callable) -> Mistake:
    return lambda spec, params: (spec, nested({name: change(leaf) if name == path else leaf for name, leaf in flat(params).items()}))


def edit_qkv(path: str, change: Callable) -> Mistake:
    """`change` gets the columns of q, of k and of v, and gives back what shall stand there."""

    def edited(spec: ModelSpec, params: Params) -> tuple[ModelSpec, Params]:
        q_width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        cuts = [q_width, q_width + kv_width]
        return edit(path, lambda leaf: jnp.concatenate(change(*jnp.split(leaf, cuts, axis=-1)), axis=-1))(spec, params)

    return edited


def norm_each_head(spec: ModelSpec, params: Params) -> tuple[ModelSpec, Params]:
    changed = replace(spec, qk_norm="head")
    leaves = {name: leaf[:, : spec.head_dim] if name in ("layers.q_norm", "layers.k_norm") else leaf for name, leaf in flat(params).items()}
    return changed, nested(leaves)


def one_after_the_other(spec: ModelSpec, params: Params) -> tuple[ModelSpec, Params]:
    """The MLP after attention, with the same norm."""
    leaves = flat(params)
    return replace(spec, parallel=False), nested(leaves | {"layers.mlp_norm": leaves["layers.attn_norm"]})


def drop(kind: str, mistake: Mistake) -> Mistake:
    """A mistake that needs no array of that kind."""

    def dropped(spec: ModelSpec, params: Params) -> tuple[ModelSpec, Params]:
        return mistake(spec, nested({name: leaf for name, leaf in flat(params).items() if name != f"layers.{kind}"}))

    return dropped


def halves_swapped(leaf):
    return jnp.roll(leaf, leaf.shape[-1] // 2, -1)


def one_element(leaf):
    return leaf.at[(0,) * leaf.ndim].add(0.1)


MISTAKES: dict[str, tuple[tuple[str, ...], Mistake]] = {
    "rope_theta 2 % off": (NAMES, lambda spec, params: (replace(spec, rope_theta=spec.rope_theta * 1.02), params)),
    "norm_eps 1e-2": (NAMES, change_spec(norm_eps=1e-2)),
    "norms swapped": (
        tuple(name for name in NAMES if name not in ("olmo2", "olmo3", "exaone4", "cohere", "cohere2")),
        swap("layers.attn_norm", "layers.mlp_norm"),
    ),
    "norms after swapped": (
        ("glm4", "olmo2", "olmo3", "exaone4", "gemma2", "gemma3"),
        swap("layers.attn_post_norm", "layers.mlp_post_norm"),
    ),
    "q projection's norm left out": (("olmo2", "olmoe"), edit("layers.q_norm", jnp.ones_like)),
    "norms without their 1": (("gemma", "gemma2", "gemma3"), change_spec(norm="rms")),
    "a SiLU for the GELU": (("gemma", "gemma2", "gemma3"), change_spec(mlp="swiglu")),
    "scores not capped": (("gemma2",), change_spec(attention_soft_cap=None)),
    "scores capped elsewhere": (("gemma2",), change_spec(attention_soft_cap=2.05)),
    "logits not capped": (("gemma2",), change_spec(logit_soft_cap=None)),
    "local layers turn as global ones": (("gemma3", "olmo3"), change_spec(local_rope_theta=None)),
    "local theta off": (("gemma3", "olmo3"), change_spec(local_rope_theta=9000.0)),
    "a norm a head": (("olmo2", "olmoe"), norm_each_head),
    "embeddings not scaled": (("granite", "granitemoe", "gemma", "gemma2", "gemma3"), change_spec(embed_scale=1.0)),
    "scores scaled as usual": (("granite", "gemma2", "gemma3"), change_spec(attention_scale=None)),
    "residuals not scaled": (("granite", "granitemoe"), change_spec(residual_scale=1.0)),
    "logits not divided": (("granite", "cohere"), change_spec(logit_divisor=1.0)),
    "all layers rotated": (("smollm3", "exaone4", "cohere2"), change_spec(unrotated=())),
    "other layers rotated": (("smollm3",), change_spec(unrotated=(0, 2))),
    "all of a head rotated": (("phi3_longrope",), change_spec(rotary_dim=None, rope_scaling=None)),
    "cosines not multiplied": (("phi3_longrope", "qwen2_yarn", "olmo3"), change_scaling(attention_factor=1.0)),
    "frequencies of a long text": (("phi3_longrope",), change_scaling(factors=(1.0, 1.5, 3.0, 9.0, 20.0, 40.0))),
    "yarn's factor off": (("qwen2_yarn",), change_scaling(factor=3.9)),
    "yarn's beta off": (("qwen2_yarn",), change_scaling(beta_slow=0.5)),
    "yarn cut within frequencies": (("qwen2_yarn",), change_scaling(beta_whole=False)),
    "gate and up swapped": (GATED, edit("layers.gate_up", halves_swapped)),
    "k read for v": (IN_ORDER, edit_qkv("layers.qkv", lambda q, k, v: (q, v, k))),
    "kv heads' q, k and v taken for q, k and v": (("internlm2",), change_spec(naming="llama")),
    "means not taken off": (("cohere", "cohere2"), change_spec(norm="rms")),
    "norms' biases dropped": (("starcoder2",), edit("layers.mlp_norm_bias", jnp.zeros_like)),
    "the last norm's bias dropped": (("starcoder2",), edit("norm_bias", jnp.zeros_like)),
    "up's bias dropped": (("starcoder2",), edit("layers.up_bias", jnp.zeros_like)),
    "one weight of up changed": (("starcoder2",), edit("layers.up", one_element)),
    "a norm of q by one head's weights": (("cohere",), edit("layers.q_norm", lambda leaf: jnp.broadcast_to(leaf[:, :1], leaf.shape))),
    "attention before the MLP": (
        ("cohere", "cohere2"),
        lambda spec, params: (
            replace(spec, parallel=False),
            params | {"layers": params["layers"] | {"mlp_norm": params["layers"]["attn_norm"]}},
        ),
    ),
    "keys of latents for values": (LATENT, edit("layers.kv_b", lambda leaf: jnp.roll(leaf, 1, -1))),
    "latents not normed": (LATENT, edit("layers.kv_a_norm", jnp.ones_like)),
    "latents of queries not normed": (("deepseek_v3",), edit("layers.q_a_norm", jnp.ones_like)),
    "latents' bias dropped": (("deepseek_v3",), edit("layers.kv_a_bias", jnp.zeros_like)),
    "scores scaled by what is cached": (LATENT, change_spec(attention_scale=None)),
    "scores not made larger by yarn": (("deepseek_v2",), change_spec(attention_scale=24**-0.5)),
    "experts of all groups": (("deepseek_v3",), change_experts(groups=1, groups_per_token=1)),
    "experts of one group": (("deepseek_v3",), change_experts(groups_per_token=1)),
    "layers in another order": (NAMES, edit("layers.o", lambda leaf: leaf[::-1])),
    "one weight changed": (GATED, edit("layers.gate_up", one_element)),
    "kv heads swapped": (("llama3", "qwen3"), edit_qkv("layers.qkv", lambda q, k, v: (q, halves_swapped(k), v))),
    "q heads after the others": (IN_ORDER, edit_qkv("layers.qkv", lambda q, k, v: (k, v, q))),
    "scaling left out": (("llama3_scaled", "llama3_tied", "llama_linear"), change_spec(rope_scaling=None)),
    "factor off": (("llama3_scaled", "llama_linear"), change_scaling(factor=7.5)),
    "original length off": (("llama3_scaled", "llama3_tied"), change_scaling(original_max_len=49)),
    "low frequencies from elsewhere": (("llama3_scaled",), change_scaling(low_freq_factor=1.1)),
    "high frequencies from elsewhere": (("llama3_scaled",), change_scaling(high_freq_factor=4.4)),
    "window one wider": (
        ("mistral_windowed", "qwen2_windowed", "phi3", "gemma2", "gemma3", "olmo3", "exaone4", "cohere2", "starcoder2"),
        move_windows(1),
    ),
    "window one narrower": (("mistral_windowed", "qwen2_windowed"), move_windows(-1)),
    "no window": (("mistral_windowed",), change_spec(windows=(None, None, None))),
    "first layer windowed too": (("qwen2_windowed",), change_spec(windows=(12, 12, 12))),
    "halves turned for neighbours": ((*LATENT, "glm4", "cohere", "cohere2"), change_spec(interleaved=False)),
    "all of a head turned": (("glm4", "glm4_moe"), change_spec(rotary_dim=None)),
    "q bias dropped": (("llama_biased", "qwen2", "seed_oss", "glm4"), edit_qkv("layers.qkv_bias", lambda q, k, v: (0 * q, k, v))),
    "k bias dropped": (("llama_biased", "qwen2", "seed_oss"), edit_qkv("layers.qkv_bias", lambda q, k, v: (q, 0 * k, v))),
    "v bias dropped": (("llama_biased", "qwen2", "seed_oss"), edit_qkv("layers.qkv_bias", lambda q, k, v: (q, k, 0 * v))),
    "o bias dropped": (("llama_biased",), edit("layers.o_bias", jnp.zeros_like)),
    "gate and up biases swapped": (("llama_biased",), edit("layers.gate_up_bias", halves_swapped)),
    "down bias dropped": (("llama_biased",), edit("layers.down_bias", jnp.zeros_like)),
    "q and k norms swapped": (("qwen3", "gemma3", "exaone4"), swap("layers.q_norm", "layers.k_norm")),
    "gate and up of experts swapped": (tuple(name for name in MOE if name != "gpt_oss"), edit("layers.expert_gate_up", halves_swapped)),
    "experts in another order": (MOE, edit("layers.expert_down", lambda leaf: leaf[:, ::-1])),
    "one weight of an expert changed": (MOE, edit("layers.expert_down", one_element)),
    "an expert fewer a token": (MOE, change_experts(per_token=1)),
    "an expert more a token": (MOE, lambda spec, params: change_experts(per_token=spec.experts.per_token + 1)(spec, params)),
    "weights of experts not made one": (tuple(name for name in MOE if name not in NOT_NORMED), change_experts(normed=False)),
    "weights of experts made one": (NOT_NORMED, change_experts(normed=True)),
    "weights of experts not scaled": (("glm4_moe", *LATENT), change_experts(scale=1.0)),
    "sinks left out": (("gpt_oss",), drop("sinks", change_spec(sinks=False))),
    "sinks of other heads": (("gpt_oss",), edit("layers.sinks", halves_swapped)),
    "gate and up clamped elsewhere": (("gpt_oss",), change_experts(clamp=0.5)),
    "gate and up the other way round": (("gpt_oss",), edit("layers.expert_gate_up", lambda leaf: jnp.roll(leaf, 1, -1))),
    "router's bias dropped": (("gpt_oss",), edit("layers.router_bias", jnp.zeros_like)),
    "biases of gate and up dropped": (("gpt_oss",), edit("layers.expert_gate_up_bias", jnp.zeros_like)),
    "biases of down dropped": (("gpt_oss",), edit("layers.expert_down_bias", jnp.zeros_like)),
    "a softmax for the sigmoids": (("glm4_moe",), drop("choice_bias", change_experts(sigmoid=False))),
    "experts chosen without the bias": (("glm4_moe", "deepseek_v3"), edit("layers.choice_bias", jnp.zeros_like)),
    "shared expert dropped": (("qwen2_moe", "granitemoeshared", "glm4_moe"), edit("layers.shared_down", jnp.zeros_like)),
    "shared expert's gate changed": (("qwen2_moe",), edit("layers.shared_gate", one_element)),
    "dense layers in another order": (("qwen2_moe",), edit("layers.gate_up", lambda leaf: leaf[::-1])),
    "layers with experts in another order": (("qwen3_moe", "glm4_moe"), edit("layers.router", lambda leaf: leaf[::-1])),
    "q norm left out": (("qwen3",), edit("layers.q_norm", jnp.ones_like)),
}


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for mistake, (names, _) in MISTAKES.items() for name in names])
def test_a_small_mistake_is_noticed(model, name, mistake):
    assert error(name, *MISTAKES[mistake][1](*model(name))) > 10 * LIMIT


def test_goldens_stay_small():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) < 1.5e6
    assert len(NAMES) == 42
    assert all(np.isfinite(read_golden(name).logits).all() for name in NAMES)
