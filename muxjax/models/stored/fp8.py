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
    rounded, row_bytes = _Rounded(wide, name), 8 * wide.shape[-1]
    return Quantised(
        Made(wide.shape, _NUMBERS, rounded.numbers, row_bytes), Made((*wide.shape[:-1], 1), _SCALES, rounded.scales, row_bytes)
    )


class _Rounded:
    """Wide matrices in FP8. Scales are kept once they are found, for they take whole rows: who reads the numbers first, and then the
    scales, reads no row twice; nor does a further device read more than its own inputs."""

    def __init__(self, wide: Made, name: str):
        self._wide, self._name = wide, name
        self._found: np.ndarray | None = None  # [..., out, 1], NaN where they are not found yet

    def numbers(self, index: Index) -> np.ndarray:
        """Part of the numbers."""
        if self._has(index):
            values, scales = self._wide.read(index).astype(np.float32), self.scales(index)
        else:
            rows, scales = self._read(index)
            values = rows[..., index[-1]]
        return (values / scales).astype(_NUMBERS)

    def scales(self, index: Index) -> np.ndarray:
        """Those of rows, [..., rows, 1]."""
        return self._kept[index[:-1]] if self._has(index) else self._read(index)[1]

    @property
    def _kept(self) -> np.ndarray:
        if self._found is None:
            self._found = np.full((*self._wide.shape[:-1], 1), np.nan, _SCALES)
        return self._found

    def _has(self, index: Index) -> bool:
        return not np.isnan(self._kept[index[:-1]]).any()

    def _read(self, index: Index) -> tuple[np.ndarray, np.ndarray]:
        """Whole rows, and their scales.

        Raises:
          CheckpointError: they have numbers that are not finite.
        """
        values = self._wide.read((*index[:-1], slice(0, self._wide.shape[-1]))).astype(np.float32)
        largest = np.abs(values).max(axis=-1, keepdims=True)
        if not np.isfinite(largest).all():
            raise CheckpointError(f"{self._name} cannot be quantised: it has numbers that are not finite")
        scales = np.where(largest > 0, largest / np.float32(MOST_FP8), np.float32(1))
        self._kept[index[:-1]] = scales
        return values, scales


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
