"""Matrices in int4, eight numbers in an int32: as GPTQ, AWQ and compressed-tensors hold them, each in an order of its own.

Source: `QuantLinear` of AutoGPTQ 0.7; `WQLinear_GEMM` and `reverse_awq_order` of AutoAWQ 0.2; `pack_to_int32` of compressed-tensors 0.13.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np

from muxjax.errors import CheckpointError
from muxjax.models.stored.files import StoredTensors
from muxjax.models.stored.made import Index, Made, Quantised
from muxjax.quantization import INT4
from muxjax.specs.reading.quantization import StoredQuantization

_NUMBERS, _SCALES, _ZEROS = np.dtype(getattr(ml_dtypes, INT4, INT4)), np.dtype(np.float32), np.dtype(np.int8)
_WORD, _OFFSET = 8, 8
"""Numbers of an int32, and what is added to each, so that it is none below 0."""


class _Form(NamedTuple):
    """How a tool stores a matrix [out, in] of J groups of inputs.

    Args:
      numbers, zeros, scales, groups: what stands behind a module's name: of numbers, zeros and scales, and of the group of each input.
      others: of tensors that say nothing more.
      is_transposed: numbers lie as [in, out], scales and zeros as [J, out]; else as [out, in] and [out, J].
      axis: of numbers, along which they share a word. Zeros of outputs share one.
      order: places in a word, the low bits first, of numbers that come one after another.
      less: how much less than itself a zero is stored as.
    """

    numbers: str
    zeros: str
    scales: str
    groups: str
    others: tuple[str, ...] = ()
    is_transposed: bool = True
    axis: int = 0
    order: tuple[int, ...] = tuple(range(_WORD))
    less: int = 0

    @property
    def zeros_axis(self) -> int:
        return 1 if self.is_transposed else 0


_GPTQ = _Form("qweight", "qzeros", "scales", "g_idx")
_FORMS: Mapping[str, _Form] = {
    "gptq": _GPTQ._replace(less=1),
    "gptq_v2": _GPTQ,
    "awq": _GPTQ._replace(axis=1, order=(0, 4, 1, 5, 2, 6, 3, 7)),
    "pack-quantized": _Form(
        "weight_packed", "weight_zero_point", "weight_scale", "weight_g_idx", ("weight_shape",), is_transposed=False, axis=1
    ),
}


def int4_matrices(files: StoredTensors, quantization: StoredQuantization | None) -> dict[str, tuple[Quantised, frozenset[str]]]:
    """All that are stored so, by the names that they would have as they are, with the names of tensors that only say how.

    Raises:
      CheckpointError: a tensor is missing beside one, or of another shape than it must be.
    """
    if quantization is None or quantization.form not in _FORMS:
        return {}
    form = _FORMS[quantization.form]
    modules = [name.removesuffix(form.numbers) for name in files.shapes if name.endswith(f".{form.numbers}")]
    return {f"{module}weight": _Module(files, module, form).matrix(quantization) for module in modules}


class _Module(NamedTuple):
    """A module, whose name ends in a dot."""

    files: StoredTensors
    name: str
    form: _Form

    def matrix(self, quantization: StoredQuantization) -> tuple[Quantised, frozenset[str]]:
        form, shapes = self.form, self.files.shapes
        stored = list(shapes[self.name + form.numbers])
        if len(stored) != 2:
            raise CheckpointError(f"{self.files.folder}: {self.name}{form.numbers} {stored} must be a matrix")
        stored[form.axis] *= _WORD
        outputs, inputs = reversed(stored) if form.is_transposed else stored
        group = quantization.group or inputs
        if inputs % group:
            raise CheckpointError(f"{self.files.folder}: {self.name}{form.numbers} has {inputs} inputs, which are no groups of {group}")
        groups, has_zeros = inputs // group, quantization.has_zeros
        self._require(form.scales, outputs, groups)
        if has_zeros:
            self._require(form.zeros, -(-outputs // _WORD), groups)
        elif self.name + form.zeros in shapes:
            raise CheckpointError(f"{self.files.folder}: {self.name}{form.zeros} is there, and config.json says that there are no zeros")
        has_order = self.name + form.groups in shapes
        self._require_dtypes(has_zeros=has_zeros, has_order=has_order)
        if quantization.by_activations and not has_order:
            raise CheckpointError(f"{self.files.folder} lacks {self.name}{form.groups}, and config.json says that groups are no neighbours")
        names = (form.numbers, form.zeros, form.scales, form.groups, *form.others)
        matrix = Quantised(
            Made((outputs, inputs), _NUMBERS, self._numbers, 8 * inputs),
            Made((outputs, groups), _SCALES, self._scales),
            Made((outputs, groups), _ZEROS, self._zeros) if has_zeros else None,
            functools.partial(self._group_of, inputs, groups) if has_order else None,
        )
        return matrix, frozenset(self.name + name for name in names) & shapes.keys()

    def _require(self, suffix: str, outputs: int, groups: int) -> None:
        right = (groups, outputs) if self.form.is_transposed else (outputs, groups)
        if (found := self.files.shapes.get(self.name + suffix)) != right:
            said = "none" if found is None else list(found)
            raise CheckpointError(f"{self.files.folder}: {self.name}{suffix} must be {list(right)}, got {said}")

    def _require_dtypes(self, *, has_zeros: bool, has_order: bool) -> None:
        """Raises CheckpointError: words are none of 32 bits, scales are whole numbers, or groups are not."""
        form = self.form
        for suffix in (form.numbers, form.zeros)[: 1 + has_zeros]:
            self.files.require_dtype(self.name + suffix, ("I32",))
        self.files.require_dtype(self.name + form.scales)
        if has_order:
            self.files.require_dtype(self.name + form.groups, ("I32", "I64"))

    def _numbers(self, index: Index) -> np.ndarray:
        return (self._unpacked(self.form.numbers, index, self.form.axis) - _OFFSET).astype(_NUMBERS)

    def _zeros(self, index: Index) -> np.ndarray:
        stored = self._unpacked(self.form.zeros, index, self.form.zeros_axis)
        return (stored + self.form.less - _OFFSET).astype(_ZEROS)

    def _scales(self, index: Index) -> np.ndarray:
        return self._turned(index, lambda part: self.files.read(self.name + self.form.scales, part)).astype(_SCALES)

    def _group_of(self, inputs: int, groups: int) -> np.ndarray:
        """
        Raises:
          CheckpointError: that is not a group for each input.
        """
        found = self.files.whole(self.name + self.form.groups)
        if found.shape != (inputs,) or found.min() < 0 or found.max() >= groups:
            said = f"{inputs} numbers from 0 to {groups - 1}"
            raise CheckpointError(f"{self.files.folder}: {self.name}{self.form.groups} must be {said}")
        return found

    def _unpacked(self, suffix: str, index: Index, axis: int) -> np.ndarray:
        """Part of a tensor of words, as the numbers in them, int32."""

        def read(part: Index) -> np.ndarray:
            wanted = part[axis]
            assert isinstance(wanted, slice)
            first, words = wanted.start // _WORD * _WORD, slice(wanted.start // _WORD, -(-wanted.stop // _WORD))
            stored = self.files.read(self.name + suffix, (*part[:axis], words, *part[axis + 1 :])).view(np.uint32)
            shifts = 4 * np.array(self.form.order, np.uint32)
            numbers = np.moveaxis(stored, axis, -1)[..., None] >> shifts & np.uint32(15)
            each = numbers.reshape(*numbers.shape[:-2], -1)[..., wanted.start - first : wanted.stop - first]
            return np.moveaxis(each, -1, axis).astype(np.int32)

        return self._turned(index, read)

    def _turned(self, index: Index, read: Callable[[Index], np.ndarray]) -> np.ndarray:
        """Part of a tensor as [out, ...], whichever way it is stored."""
        return read(index[::-1]).T if self.form.is_transposed else read(index)
