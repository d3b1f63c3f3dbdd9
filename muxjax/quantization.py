"""Quantization: the matrices of a model that devices hold in fewer bits, as numbers that groups of inputs share a scale of."""

from dataclasses import dataclass

FP8 = "float8_e4m3fn"
MOST_FP8 = 448.0
"""Largest number of that type."""

_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How matrices [in, out] are held: as numbers of a narrow type, times a float32 scale of each group of inputs and each output.

    Args:
      kinds: of those matrices, as `models/tensors.py` calls them; all else has the model's dtype.
      group: inputs that share a scale; None for all of a matrix.
      dtype: of the numbers, as ml_dtypes names it.
    """

    kinds: tuple[str, ...]
    group: int | None = None
    dtype: str = FP8

    def groups(self, inputs: int) -> int:
        """J: scales of each output of a matrix with so many inputs."""
        return 1 if self.group is None else inputs // self.group

    def matrix_bytes(self, inputs: int, outputs: int) -> float:
        """Of the numbers and scales of one matrix."""
        return outputs * (inputs + _SCALE_BYTES * self.groups(inputs))
