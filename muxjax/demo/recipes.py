"""How each demo model is shaped and trained: everything that, with the code, decides its weights."""

from dataclasses import dataclass

from muxjax.demo.worlds import FARM, FOREST, SEA, World
from muxjax.model_spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One model: its world, its shape, its training.

    Args:
      context: tokens of a training row; longer conversations do not exist.
      rows: conversations of a step.
      peak: learning rate after `warmup` (a share of all steps), from where it falls to zero as a half cosine.
    """

    world: World
    spec: ModelSpec
    seed: int
    context: int = 96
    steps: int = 2400
    rows: int = 32
    peak: float = 5e-3
    warmup: float = 0.06
    b2: float = 0.98
    decay: float = 0.01
    clip: float = 1.0


def _spec(*, vocab: int, width: int, layers: int, heads: int, kv_heads: int, head_dim: int, ffn: int, max_len: int = 128) -> ModelSpec:
    return ModelSpec(
        vocab=vocab,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        max_len=max_len,
        windows=(None,) * layers,
        rope_theta=1000.0,
        tied=True,
        dtype="bfloat16",
        eos_ids=(1,),
    )


RECIPES = {
    "farm": Recipe(world=FARM, seed=1, spec=_spec(vocab=480, width=128, layers=3, heads=4, kv_heads=2, head_dim=32, ffn=192)),
    "forest": Recipe(world=FOREST, seed=2, spec=_spec(vocab=496, width=96, layers=3, heads=6, kv_heads=3, head_dim=16, ffn=256)),
    "sea": Recipe(
        world=SEA,
        seed=3,
        context=144,
        steps=3000,
        spec=_spec(vocab=544, width=128, layers=3, heads=2, kv_heads=1, head_dim=64, ffn=192, max_len=256),
    ),
}
