"""A model's parameters on the device: from a checkpoint, or random ones of the same shape."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from tqdm import tqdm

from muxjax.models.checkpoint import open_checkpoint
from muxjax.models.decoder import Params, param_shapes
from muxjax.models.tree import flat, nested
from muxjax.types import ModelSpec


def load(folder: Path, spec: ModelSpec, *, load_format: str = "auto", progress: bool = True) -> Params:
    """Parameters in the model's dtype on the default device.

    One array of the tree at a time is in host memory, so the checkpoint may be larger than that.

    Args:
      folder: Hugging Face (safetensors) or Orbax.
      load_format: "auto" reads the folder's weights, "dummy" makes random ones and reads none.
      progress: shows the bytes read on stderr.
    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the spec's.
    """
    if load_format == "dummy":
        return dummy(spec)
    checkpoint = open_checkpoint(folder, spec)
    arrays: dict[str, jax.Array] = {}
    with tqdm(total=checkpoint.stored_bytes, unit="B", unit_scale=True, desc=folder.name, disable=not progress) as bar:
        for path, stack in checkpoint.read_stacks(jnp.dtype(spec.dtype), bar.update):
            arrays[path] = jax.block_until_ready(jax.device_put(stack))  # or host copies would pile up behind the transfers
    return nested(arrays)


def dummy(spec: ModelSpec, seed: int = 0) -> Params:
    """Random parameters made on the device, scaled so that activations keep their size through the layers."""
    key = jax.random.key(seed, impl="rbg")
    shapes = flat(param_shapes(spec))
    return nested({path: _random(path, leaf, jax.random.fold_in(key, i), spec) for i, (path, leaf) in enumerate(shapes.items())})


def _random(path: str, leaf: jax.ShapeDtypeStruct, key: jax.Array, spec: ModelSpec) -> jax.Array:
    """Uniform, drawn in the final dtype and layer by layer: the random bits of a whole stack would take twice its memory."""
    stacked, _, kind = path.rpartition(".")
    if kind.endswith("norm"):
        return jnp.ones(leaf.shape, leaf.dtype)
    inputs = spec.width if kind == "embed" or kind.endswith("_bias") else leaf.shape[-2]
    residual = (2 * spec.layers) ** -0.5 if kind in ("o", "down") else 1.0
    limit = (3 / inputs) ** 0.5 * residual

    def draw(shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, shape, leaf.dtype, -limit, limit)

    return jax.lax.map(partial(draw, leaf.shape[1:]), jax.random.split(key, spec.layers)) if stacked else draw(leaf.shape, key)
