"""Matrices in float8_e4m3fn: as checkpoints hold them, and made of wider ones while they are read."""

import ml_dtypes
import numpy as np

from muxjax.errors import CheckpointError
from muxjax.models.stored.files import StoredTensors
from muxjax.models.stored.made import Index, Made, Quantised, Read
from muxjax.quantization import FP8, MOST_FP8
from muxjax.specs.reading.quantization import StoredQuantization

_NUMBERS = np.dtype(getattr(ml_dtypes, FP8))
_SCALES = np.dtype(np.float32)


def fp8_matrices(files: StoredTensors, quantization: StoredQuantization | None) -> dict[str, tuple[Quantised, frozenset[str]]]:
    """All that are stored so, by name, with the names of tensors that only say how.

    Raises:
      CheckpointError: config.json says nothing of it; or no scale lies beside one, or more than one, or one of another shape.
    """
    names = [name for name in files.shapes if files.is_fp8(name)]
    if names and quantization is None:
        raise CheckpointError(f"{files.where(names[0])}: {names[0]} is stored as F8_E4M3, and config.json has no quantization_config")
    if names and quantization and quantization.form != FP8:
        raise CheckpointError(f"{files.where(names[0])}: {names[0]} is stored as F8_E4M3, and config.json says {quantization.form}")
    return {name: _stored(files, name, quantization.group) for name in names if quantization}


def _stored(files: StoredTensors, name: str, block: int | None) -> tuple[Quantised, frozenset[str]]:
    if len(files.shapes[name]) != 2:
        raise _wrong_shape(files, name, "a matrix, as it is stored as F8_E4M3")
    outputs, inputs = files.shapes[name]
    beside = [name + suffix for suffix in ("_scale", "_scale_inv") if name + suffix in files.shapes]
    if len(beside) != 1:
        raise CheckpointError(f"{files.where(name)}: {name} is stored as F8_E4M3, and needs a scale in {name}_scale or {name}_scale_inv")
    files.require_dtype(beside[0])
    shape, numbers = files.shapes[beside[0]], Made((outputs, inputs), _NUMBERS, lambda index: files.read(name, index))
    of_activations = {name.removesuffix("weight") + suffix for suffix in ("input_scale", "activation_scale")}
    parts = frozenset([*beside, *(of_activations & files.shapes.keys())])
    if block is None:
        if shape not in ((), (1,), (outputs,), (outputs, 1)):
            raise _wrong_shape(files, beside[0], f"[], [1] or [{outputs}, 1]")
        return Quantised(numbers, Made((outputs, 1), _SCALES, _scales_of_outputs(files, beside[0], outputs))), parts
    if inputs % block:
        raise CheckpointError(f"{files.where(name)}: {name} has {inputs} inputs, which are no groups of {block}")
    rows, groups = -(-outputs // block), inputs // block
    if shape != (rows, groups):
        raise _wrong_shape(files, beside[0], f"[{rows}, {groups}], as a block has {block} x {block}")
    return Quantised(numbers, Made((outputs, groups), _SCALES, _scales_of_blocks(files, beside[0], block))), parts


def made_fp8(wide: Made, name: str) -> Quantised:
    """Matrices [..., out, in] rounded to the nearest, by a scale of each output that makes its largest number MOST_FP8.

    Reading them raises CheckpointError for numbers that are not finite.
    """
    every, row_bytes = slice(0, wide.shape[-1]), 8 * wide.shape[-1]

    def read(index: Index) -> tuple[np.ndarray, np.ndarray]:
        """Whole rows, and their scales."""
        values = wide.read((*index[:-1], every)).astype(np.float32)
        largest = np.abs(values).max(axis=-1, keepdims=True)
        if not np.isfinite(largest).all():
            raise CheckpointError(f"{name} cannot be quantised: it has numbers that are not finite")
        return values, np.where(largest > 0, largest / np.float32(MOST_FP8), np.float32(1))

    def numbers(index: Index) -> np.ndarray:
        values, scales = read(index)
        return (values[..., index[-1]] / scales).astype(_NUMBERS)

    shape = (*wide.shape[:-1], 1)
    return Quantised(Made(wide.shape, _NUMBERS, numbers, row_bytes), Made(shape, _SCALES, lambda index: read(index)[1], row_bytes))


def _scales_of_outputs(files: StoredTensors, name: str, outputs: int) -> Read:
    """[O, 1] of a tensor with a number for each output, or one for all of them."""

    def read(index: Index) -> np.ndarray:
        stored = files.whole(name).astype(np.float32).reshape(-1, 1)
        return np.broadcast_to(stored, (outputs, 1))[index]

    return read


def _scales_of_blocks(files: StoredTensors, name: str, block: int) -> Read:
    """[O, J] of a tensor with a number for each block."""

    def read(index: Index) -> np.ndarray:
        rows, groups = index
        assert isinstance(rows, slice)
        stored = files.read(name, (slice(rows.start // block, -(-rows.stop // block)), groups)).astype(np.float32)
        first = rows.start // block * block
        return np.repeat(stored, block, axis=0)[rows.start - first : rows.stop - first]

    return read


def _wrong_shape(files: StoredTensors, name: str, right: str) -> CheckpointError:
    return CheckpointError(f"{files.where(name)}: {name} {list(files.shapes[name])} must be {right}")
