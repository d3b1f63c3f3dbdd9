"""A model's parameters on the device: from a checkpoint, or random ones of the same shape."""

from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
from tqdm import tqdm

from muxjax.model_spec import ModelSpec
from muxjax.models.checkpoint import Advance, Checkpoint
from muxjax.models.decoder import Params, param_shapes
from muxjax.models.formats import open_checkpoint
from muxjax.models.sharding import Devices, partition
from muxjax.models.shares import WHOLE, Share, part, part_shape, split_axis
from muxjax.models.tensors import SCALE, ZERO, adds_to_residual, tensors
from muxjax.models.tree import flat, nested


def load(folder: Path, spec: ModelSpec, devices: Devices | None = None, *, load_format: str = "auto", progress: bool = True) -> Params:
    """Parameters in the model's dtype on the devices (the default one), which share them out.

    One device's part of one array of the tree at a time is in host memory, so the checkpoint may be larger than that.

    Args:
      folder: Hugging Face (safetensors) or Orbax.
      load_format: "auto" reads the folder's weights, "dummy" makes random ones and reads none.
      progress: shows the bytes read on stderr.
    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the spec's.
    """
    devices = devices or Devices.first(1)
    if load_format == "dummy":
        return dummy(spec, devices)
    checkpoint = open_checkpoint(folder, spec)
    arrays: dict[str, jax.Array] = {}
    with tqdm(total=checkpoint.stored_bytes, unit="B", unit_scale=True, desc=folder.name, disable=not progress) as bar:
        for path in checkpoint.dtypes:
            arrays[path] = _place(path, checkpoint, spec, devices, bar.update)
    return nested(arrays)


def _place(path: str, checkpoint: Checkpoint, spec: ModelSpec, devices: Devices, advance: Advance) -> jax.Array:
    """A parameter from a checkpoint on the devices, each part straight to its own; what all hold is read once."""

    def onto(takers: Iterable[jax.Device], share: Share) -> list[jax.Array]:  # the host's part is gone when it returns
        array = checkpoint.read(path, share, dtype=jnp.dtype(tensors(spec)[path].dtype or spec.dtype), advance=advance)
        return jax.block_until_ready([jax.device_put(array, device) for device in takers])

    if split_axis(path, spec) is None:
        parts = onto(devices.each, WHOLE)
    else:
        parts = [onto([device], share)[0] for device, share in zip(devices.each, Share.each(devices.tp), strict=True)]
    return devices.join(parts, partition(path, parts[0].ndim, spec))


def dummy(spec: ModelSpec, devices: Devices | None = None, *, seed: int = 0) -> Params:
    """Random parameters made on the devices (the default one), scaled so that activations keep their size through the layers.

    They are the same however many devices share them out: each draws all of a layer and keeps its part.
    """
    devices = devices or Devices.first(1)
    key = jax.random.key(seed, impl="rbg")
    arrays = {}
    for i, (path, leaf) in enumerate(flat(param_shapes(spec)).items()):
        keys = [jax.device_put(jax.random.fold_in(key, i), device) for device in devices.each]
        parts = [_random(path, leaf, key, spec, share) for share, key in zip(Share.each(devices.tp), keys, strict=True)]
        arrays[path] = devices.join(parts, partition(path, leaf.ndim, spec))
    return nested(arrays)


def _random(path: str, leaf: jax.ShapeDtypeStruct, key: jax.Array, spec: ModelSpec, share: Share) -> jax.Array:
    """One device's part, where its key is. Uniform, drawn in the final dtype and layer by layer: the random bits of a whole stack would
    take twice its memory."""
    stacked, _, kind = path.rpartition(".")
    if kind.endswith("norm"):
        shape = part_shape(path, leaf.shape, spec, share.of)
        return jnp.full(shape, 0 if spec.norm == "rms_offset" else 1, leaf.dtype, device=next(iter(key.devices())))
    matrix, how = path.removesuffix(SCALE).removesuffix(ZERO), spec.quantization
    inputs = spec.width if kind == "embed" or kind.endswith("_bias") else tensors(spec)[matrix].stacked_shape[-2]
    residual = (2 * spec.layers) ** -0.5 if adds_to_residual(matrix.rpartition(".")[2]) else 1.0
    limit = (3 / inputs) ** 0.5 * residual
    if how and matrix != path:
        value = 0 if path.endswith(ZERO) else limit / how.most
        return jnp.full(part_shape(path, leaf.shape, spec, share.of), value, leaf.dtype, device=next(iter(key.devices())))
    drawn = leaf.dtype
    if how and leaf.dtype.name == how.dtype:
        limit, drawn = how.most, jnp.dtype(spec.dtype)

    def draw(key: jax.Array) -> jax.Array:
        whole = jax.random.uniform(key, leaf.shape[1:] if stacked else leaf.shape, drawn, -limit, limit)
        return part(path, whole, spec, share).astype(leaf.dtype)

    return jax.lax.map(draw, jax.random.split(key, leaf.shape[0])) if stacked else draw(key)
