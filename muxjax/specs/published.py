"""Shapes of published models, for dummy weights, placement and benchmarks. Source: their config.json."""

from muxjax.types import ModelSpec, RopeScaling


def _llama3(*, factor: float, width: int, layers: int, heads: int, kv_heads: int, head_dim: int, ffn: int, tied: bool = False) -> ModelSpec:
    scaling = RopeScaling(kind="llama3", factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_max_len=8192)
    return ModelSpec(
        vocab=128256,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        windows=(None,) * layers,
        norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=scaling,
        max_len=131072,
        tied=tied,
        eos_ids=(128001, 128008, 128009),
    )


def _llama1(*, width: int, layers: int, heads: int, ffn: int) -> ModelSpec:
    return ModelSpec(
        vocab=32000,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=128,
        ffn=ffn,
        windows=(None,) * layers,
        norm_eps=1e-6,
        max_len=2048,
        eos_ids=(2,),
    )


BY_NAME: dict[str, ModelSpec] = {
    "llama-3.2-1b": _llama3(factor=32.0, width=2048, layers=16, heads=32, kv_heads=8, head_dim=64, ffn=8192, tied=True),
    "llama-3.2-3b": _llama3(factor=32.0, width=3072, layers=28, heads=24, kv_heads=8, head_dim=128, ffn=8192, tied=True),
    "llama-3.1-8b": _llama3(factor=8.0, width=4096, layers=32, heads=32, kv_heads=8, head_dim=128, ffn=14336),
    "llama-7b": _llama1(width=4096, layers=32, heads=32, ffn=11008),
    "llama-13b": _llama1(width=5120, layers=40, heads=40, ffn=13824),
    "llama-30b": _llama1(width=6656, layers=60, heads=52, ffn=17920),
    "llama-65b": _llama1(width=8192, layers=80, heads=64, ffn=22016),
}
