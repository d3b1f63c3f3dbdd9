"""Shapes of published models, for dummy weights, placement and benchmarks. Source: their config.json."""

import math
from dataclasses import replace

from muxjax.experts import Experts
from muxjax.model_spec import Latent, ModelSpec, RopeScaling


def _model(
    size: tuple[int, int, int, int, int, int], *, max_len: int, windows: tuple[int | None, ...] | None = None, **variant
) -> ModelSpec:
    """Of (width, layers, heads, kv heads, head size, FFN); windows are repeated over the layers."""
    width, layers, heads, kv_heads, head_dim, ffn = size
    pattern = windows or (None,)
    return ModelSpec(
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        windows=tuple(pattern[layer % len(pattern)] for layer in range(layers)),
        max_len=max_len,
        **variant,
    )


def _llama1(*size: int) -> ModelSpec:
    width, layers, heads, ffn = size
    return _model((width, layers, heads, heads, 128, ffn), vocab=32000, norm_eps=1e-6, max_len=2048, eos_ids=(2,))


def _llama2(*size: int) -> ModelSpec:
    width, layers, heads, kv_heads, ffn = size
    return _model((width, layers, heads, kv_heads, 128, ffn), vocab=32000, norm_eps=1e-5, max_len=4096, eos_ids=(2,))


def _llama3(*size: int, factor: float, tied: bool = False) -> ModelSpec:
    width, layers, heads, kv_heads, head_dim, ffn = size
    return _model(
        (width, layers, heads, kv_heads, head_dim, ffn),
        vocab=128256,
        norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=RopeScaling(kind="llama3", factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_max_len=8192),
        max_len=131072,
        tied=tied,
        eos_ids=(128001, 128008, 128009),
    )


def _qwen2(*size: int, vocab: int = 152064, head_dim: int = 128, tied: bool = False) -> ModelSpec:
    width, layers, heads, kv_heads, ffn = size
    variant = {"rope_theta": 1e6, "qkv_bias": True, "tied": tied, "eos_ids": (151643, 151645)}
    return _model((width, layers, heads, kv_heads, head_dim, ffn), vocab=vocab, max_len=32768, **variant)


def _qwen3(*size: int, tied: bool = False) -> ModelSpec:
    width, layers, heads, ffn = size
    variant = {"rope_theta": 1e6, "qk_norm": "head", "tied": tied, "eos_ids": (151643, 151645)}
    return _model((width, layers, heads, 8, 128, ffn), vocab=151936, max_len=40960, **variant)


def _mistral(*size: int, vocab: int, max_len: int) -> ModelSpec:
    width, layers, heads, ffn = size
    return _model((width, layers, heads, 8, 128, ffn), vocab=vocab, norm_eps=1e-5, rope_theta=1e6, max_len=max_len, eos_ids=(2,))


def _gemma(size: tuple[int, int, int, int, int, int], *, scalar: int | None = None, **variant) -> ModelSpec:
    """Args: scalar: `query_pre_attn_scalar`, where it is not the head size."""
    width, _, _, _, head_dim, _ = size
    common = {"embed_scale": math.sqrt(width), "norm": "rms_offset", "mlp": "geglu", "post_norms": True, "tied": True}
    return _model(size, attention_scale=(scalar or head_dim) ** -0.5, **common, **variant)


def _gemma2(*size: int, scalar: int | None = None) -> ModelSpec:
    width, layers, heads, kv_heads, head_dim, ffn = size
    caps = {"attention_soft_cap": 50.0, "logit_soft_cap": 30.0}
    return _gemma(
        (width, layers, heads, kv_heads, head_dim, ffn),
        scalar=scalar,
        vocab=256000,
        max_len=8192,
        windows=(4096, None),
        eos_ids=(1, 107),
        **caps,
    )


def _gemma3(
    *size: int, vocab: int = 262208, max_len: int = 131072, window: int = 1024, factor: float | None = 8.0, scalar: int | None = None
) -> ModelSpec:
    width, layers, heads, kv_heads, head_dim, ffn = size
    rope = {"rope_theta": 1e6, "rope_scaling": RopeScaling(kind="linear", factor=factor) if factor else None, "local_rope_theta": 1e4}
    variant = {"windows": (window,) * 5 + (None,), "qk_norm": "head", "eos_ids": (1, 106)}
    return _gemma((width, layers, heads, kv_heads, head_dim, ffn), scalar=scalar, vocab=vocab, max_len=max_len, **rope, **variant)


def _starcoder2(*size: int, theta: float, tied: bool = True) -> ModelSpec:
    width, layers, heads, kv_heads, ffn = size
    variant = {"norm": "layer_biased", "mlp": "gelu", "qkv_bias": True, "out_bias": True, "mlp_bias": True, "naming": "starcoder2"}
    common = {"vocab": 49152, "max_len": 16384, "windows": (4096,), "norm_eps": 1e-5, "rope_theta": theta, "tied": tied, "eos_ids": (0,)}
    return _model((width, layers, heads, kv_heads, 128, ffn), **common, **variant)


def _mixture(layers: int, count: int, per_token: int, ffn: int, **variant) -> Experts:
    """Experts in all layers."""
    return Experts(count=count, per_token=per_token, ffn=ffn, layers=tuple(range(layers)), **variant)


def _mixtral(*size: int, vocab: int, max_len: int) -> ModelSpec:
    width, layers, heads, ffn = size
    variant = {"experts": _mixture(layers, 8, 2, ffn), "naming": "mixtral", "norm_eps": 1e-5, "rope_theta": 1e6, "eos_ids": (2,)}
    return _model((width, layers, heads, 8, 128, ffn), vocab=vocab, max_len=max_len, **variant)


def _qwen3_moe(*size: int, expert_ffn: int) -> ModelSpec:
    width, layers, heads, ffn = size
    variant = {"rope_theta": 1e6, "qk_norm": "head", "eos_ids": (151643, 151645), "experts": _mixture(layers, 128, 8, expert_ffn)}
    return _model((width, layers, heads, 4, 128, ffn), vocab=151936, max_len=40960, **variant)


def _deepseek(*size: int, dense: int, q_rank: int | None, magnitude: float, experts: Experts, **variant) -> ModelSpec:
    """Args: magnitude: `mscale_all_dim`, and `mscale`."""
    width, layers, heads, ffn = size
    factor = 40.0
    return _model(
        (width, layers, heads, 1, 576, ffn),
        latent=Latent(rank=512, rotated=64, key=128, value=128, q_rank=q_rank),
        attention_scale=192**-0.5 * (0.1 * magnitude * math.log(factor) + 1) ** 2,
        rotary_dim=64,
        interleaved=True,
        rope_scaling=RopeScaling(kind="yarn", factor=factor, original_max_len=4096),
        experts=replace(experts, layers=tuple(range(dense, layers))),
        max_len=163840,
        naming="deepseek",
        **variant,
    )


BY_NAME: dict[str, ModelSpec] = {
    "llama-3.2-1b": _llama3(2048, 16, 32, 8, 64, 8192, factor=32.0, tied=True),
    "llama-3.2-3b": _llama3(3072, 28, 24, 8, 128, 8192, factor=32.0, tied=True),
    "llama-3.1-8b": _llama3(4096, 32, 32, 8, 128, 14336, factor=8.0),
    "llama-7b": _llama1(4096, 32, 32, 11008),
    "llama-13b": _llama1(5120, 40, 40, 13824),
    "llama-30b": _llama1(6656, 60, 52, 17920),
    "llama-65b": _llama1(8192, 80, 64, 22016),
    "llama-3.1-70b": _llama3(8192, 80, 64, 8, 128, 28672, factor=8.0),
    "llama-3.1-405b": _llama3(16384, 126, 128, 8, 128, 53248, factor=8.0),
    "llama-2-7b": _llama2(4096, 32, 32, 32, 11008),
    "llama-2-13b": _llama2(5120, 40, 40, 40, 13824),
    "llama-2-70b": _llama2(8192, 80, 64, 8, 28672),
    "qwen2.5-0.5b": _qwen2(896, 24, 14, 2, 4864, vocab=151936, head_dim=64, tied=True),
    "qwen2.5-1.5b": _qwen2(1536, 28, 12, 2, 8960, vocab=151936, tied=True),
    "qwen2.5-3b": _qwen2(2048, 36, 16, 2, 11008, vocab=151936, tied=True),
    "qwen2.5-7b": _qwen2(3584, 28, 28, 4, 18944),
    "qwen2.5-14b": _qwen2(5120, 48, 40, 8, 13824),
    "qwen2.5-32b": _qwen2(5120, 64, 40, 8, 27648),
    "qwen2.5-72b": _qwen2(8192, 80, 64, 8, 29568),
    "qwen3-0.6b": _qwen3(1024, 28, 16, 3072, tied=True),
    "qwen3-1.7b": _qwen3(2048, 28, 16, 6144, tied=True),
    "qwen3-4b": _qwen3(2560, 36, 32, 9728, tied=True),
    "qwen3-8b": _qwen3(4096, 36, 32, 12288),
    "qwen3-14b": _qwen3(5120, 40, 40, 17408),
    "qwen3-32b": _qwen3(5120, 64, 64, 25600),
    "qwen3-30b-a3b": _qwen3_moe(2048, 48, 32, 6144, expert_ffn=768),
    "qwen3-235b-a22b": _qwen3_moe(4096, 94, 64, 12288, expert_ffn=1536),
    "mixtral-8x7b": _mixtral(4096, 32, 32, 14336, vocab=32000, max_len=32768),
    "mixtral-8x22b": _mixtral(6144, 56, 48, 16384, vocab=32768, max_len=65536),
    "olmoe-1b-7b": _model(
        (2048, 16, 16, 16, 128, 1024),
        vocab=50304,
        max_len=4096,
        norm_eps=1e-5,
        qk_norm="projection",
        experts=_mixture(16, 64, 8, 1024, normed=False),
        eos_ids=(50279,),
    ),
    "starcoder2-3b": _starcoder2(3072, 30, 24, 2, 12288, theta=999999.4420358813),
    "starcoder2-7b": _starcoder2(4608, 32, 36, 4, 18432, theta=1e6),
    "starcoder2-15b": _starcoder2(6144, 40, 48, 4, 24576, theta=1e5, tied=False),
    "command-r7b": _model(
        (4096, 32, 32, 8, 128, 14336),
        vocab=256000,
        max_len=132096,
        windows=(4096, 4096, 4096, None),
        unrotated=tuple(range(3, 32, 4)),
        norm="layer",
        norm_eps=1e-5,
        parallel=True,
        interleaved=True,
        rope_theta=50000.0,
        logit_divisor=4.0,
        tied=True,
        eos_ids=(255001,),
    ),
    "deepseek-v2-lite": _deepseek(
        *(2048, 27, 16, 10944),
        dense=1,
        q_rank=None,
        magnitude=0.707,
        experts=Experts(count=64, per_token=6, ffn=1408, layers=(), shared_ffn=2816, normed=False),
        vocab=102400,
        eos_ids=(100001,),
    ),
    "deepseek-v3": _deepseek(
        *(7168, 61, 128, 18432),
        dense=3,
        q_rank=1536,
        magnitude=1.0,
        experts=Experts(
            count=256,
            per_token=8,
            ffn=2048,
            layers=(),
            shared_ffn=2048,
            sigmoid=True,
            groups=8,
            groups_per_token=4,
            scale=2.5,
        ),
        vocab=129280,
        eos_ids=(1,),
    ),
    "mistral-7b": _mistral(4096, 32, 32, 14336, vocab=32768, max_len=32768),
    "mistral-nemo-12b": _mistral(5120, 40, 32, 14336, vocab=131072, max_len=131072),
    "mistral-small-24b": _mistral(5120, 40, 32, 32768, vocab=131072, max_len=32768),
    "mistral-large-123b": _mistral(12288, 88, 96, 28672, vocab=32768, max_len=131072),
    "gemma-2-2b": _gemma2(2304, 26, 8, 4, 256, 9216),
    "gemma-2-9b": _gemma2(3584, 42, 16, 8, 256, 14336),
    "gemma-2-27b": _gemma2(4608, 46, 32, 16, 128, 36864, scalar=144),
    "gemma-3-1b": _gemma3(1152, 26, 4, 1, 256, 6912, vocab=262144, max_len=32768, window=512, factor=None),
    "gemma-3-4b": _gemma3(2560, 34, 8, 4, 256, 10240),
    "gemma-3-12b": _gemma3(3840, 48, 16, 8, 256, 15360),
    "gemma-3-27b": _gemma3(5376, 62, 32, 16, 128, 21504, scalar=168),
}
"""The gemma-3s are their decoders, without what reads pictures."""
