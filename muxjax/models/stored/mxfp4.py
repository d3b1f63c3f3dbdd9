"""Tensors in MXFP4, as GPT-OSS has its experts: blocks of numbers and their scales, which are read as the whole tensors they stand for."""

import ml_dtypes
import numpy as np

from muxjax.errors import CheckpointError
from muxjax.models.stored.files import StoredTensors
from muxjax.models.stored.made import Index, Made

_BLOCKS, _SCALES = "_blocks", "_scales"
_BLOCK = 32
"""Numbers that share a scale."""
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""Numbers by their four bits. Source: Open Compute Project, "Microscaling Formats (MX) v1.0", E2M1."""


def mxfp4_names(files: StoredTensors) -> frozenset[str]:
    """Names of tensors whose blocks and scales lie in two.

    Raises:
      CheckpointError: one is there as a whole, too.
    """
    begun = {name.removesuffix(_BLOCKS) for name in files.shapes if name.endswith(_BLOCKS)}
    found = frozenset(name for name in begun if name + _SCALES in files.shapes)
    if twice := sorted(found.intersection(files.shapes)):
        raise CheckpointError(f"{files.folder} holds {twice[0]} both whole and in MXFP4: one of them is of another checkpoint")
    return found


def stored_mxfp4(files: StoredTensors, name: str) -> tuple[Made, frozenset[str]]:
    """The tensor [..., out, in] of that name, and the names of its parts."""

    def read(index: Index) -> np.ndarray:
        *outer, columns = index
        assert isinstance(columns, slice)
        blocks = slice(columns.start // _BLOCK, -(-columns.stop // _BLOCK))
        unpacked = unpack(files.read(name + _BLOCKS, (*outer, blocks)), files.read(name + _SCALES, (*outer, blocks)))
        first = blocks.start * _BLOCK
        return unpacked[..., columns.start - first : columns.stop - first]

    shape = _unpacked_shape(files.shapes[name + _BLOCKS], files.shapes[name + _SCALES])
    return Made(shape, np.dtype(ml_dtypes.bfloat16), read), frozenset([name + _BLOCKS, name + _SCALES])


def unpack(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Numbers in MXFP4 as bfloat16, which holds all of them.

    Args:
      blocks: uint8 [..., blocks, 16], two numbers a byte, the first in its low bits.
      scales: uint8 [..., blocks], powers of two that multiply a block's numbers, 127 for 1.
    """
    numbers = _FP4[np.stack([blocks & 15, blocks >> 4], axis=-1)].reshape(*scales.shape, _BLOCK)
    scaled = np.ldexp(numbers, scales.astype(np.int32)[..., None] - 127)
    return scaled.reshape(*scales.shape[:-1], -1).astype(ml_dtypes.bfloat16)


def _unpacked_shape(blocks: tuple[int, ...], scales: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor of such blocks; where they are none that fit their scales, one that no model has."""
    return (*scales[:-1], scales[-1] * _BLOCK) if blocks == (*scales, _BLOCK // 2) else blocks
