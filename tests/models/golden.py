"""Small models whose weights come from a seed, and what transformers said about them (made by scripts/make_goldens.py).

A golden folder holds config.json and expected.npz: the weights' `seed`, `prompt_i` and its greedy continuation `tokens_i`, and for
the last of them `logits` [positions, V] float32 at `positions` of prompt and continuation together.
"""

import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.models.attention import DenseMemory
from muxjax.models.hf_weights import kinds
from muxjax.models.layers import PLAIN, Products
from muxjax.models.weights import load
from muxjax.specs.config import read_spec

GRAIN = 64
"""Tokens: what `dense_logits` reckons are whole multiples of it."""
FOLDER = Path(__file__).parent / "goldens"
NAMES = tuple(sorted(folder.name for folder in FOLDER.glob("*") if folder.is_dir()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """prompts and tokens: of one request each; the last one's tokens reach the model's maximum length."""

    seed: int
    prompts: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    positions: np.ndarray
    logits: np.ndarray

    @property
    def longest(self) -> tuple[int, ...]:
        return self.prompts[-1] + self.tokens[-1]


def read_golden(name: str) -> Golden:
    with np.load(FOLDER / name / "expected.npz") as arrays:
        count = sum(key.startswith("prompt_") for key in arrays)
        prompts, tokens = (tuple(tuple(arrays[f"{kind}_{i}"].tolist()) for i in range(count)) for kind in ("prompt", "tokens"))
        return Golden(seed=int(arrays["seed"]), prompts=prompts, tokens=tokens, positions=arrays["positions"], logits=arrays["logits"])


def make_model(name: str, folder: Path, seed: int) -> Path:
    """Writes the Hugging Face folder of a golden's config and a seed's weights."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FOLDER / name / "config.json", folder / "config.json")
    save_file(seeded_tensors(read_spec(folder), seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load_golden(name: str, folder: Path) -> tuple[ModelSpec, decoder.Params]:
    spec = read_spec(make_model(name, folder, read_golden(name).seed))
    return spec, load(folder, spec, progress=False)


def seeded_tensors(spec: ModelSpec, seed: int) -> dict[str, np.ndarray]:
    """Weights under Hugging Face's names; each depends on seed, name and shape alone, and is the same on every machine."""
    return {name: seeded(name, shape, seed) for kind in kinds(spec).values() for name, shape in kind.tensor_shapes.items()}


def dense_logits(spec: ModelSpec, params: decoder.Params, tokens: tuple[int, ...], products: Products = PLAIN) -> np.ndarray:
    """[T, V] of our decoder, without a cache; padded behind, which no earlier token sees, so that few shapes are compiled."""
    padded = min(spec.max_len, -(-len(tokens) // GRAIN) * GRAIN)
    padded_T = jnp.asarray(np.pad(tokens, (0, padded - len(tokens))))
    hidden_TM, _ = decoder.forward(spec, params, padded_T, jnp.arange(padded), DenseMemory(), products=products)
    return np.asarray(decoder.logits(spec, params, hidden_TM))[: len(tokens)]


def worst_row(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest error of a row over the largest value in it, over all rows."""
    return float(np.max(np.abs(actual - expected).max(-1) / np.abs(expected).max(-1)))


def seeded(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Uniform, because its draws are exact arithmetic; RandomState, because its stream is frozen for good."""
    drawn = np.random.RandomState([seed, zlib.crc32(name.encode())]).uniform(-1, 1, shape)
    if "norm" in name and not name.endswith("bias"):
        return (1 + 0.3 * drawn).astype(np.float32)
    scale = 0.5 if name.endswith("bias") else 1.0 if "embed" in name else 2.5 * shape[-1] ** -0.5
    return (scale * drawn).astype(np.float32)
