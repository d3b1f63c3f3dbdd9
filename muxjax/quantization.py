"""Quantization: the matrices of a model that devices hold in fewer bits, as numbers that groups of inputs share a scale of."""

from dataclasses import dataclass
from importlib.metadata import version

FP8 = "float8_e4m3fn"
INT4 = "int8" if version("jax").startswith("0.10.") else "int4"
"""Of a number of 4 bits: JAX 0.10 passes no int4 to a program that was compiled ahead, so a byte holds it there."""
MOST_FP8 = 448.0
"""Largest number of the first."""

WEIGHTS, WEIGHTS_AND_ACTIVATIONS = "fp8", "fp8_w8a8"
QUANTIZATIONS = (WEIGHTS, WEIGHTS_AND_ACTIVATIONS)
"""What may be wished of a model: its matrices in FP8, and activations of prompts, too."""

_BYTES = {FP8: 1.0, "int8": 1.0, "int4": 0.5}
_SCALE_BYTES, _ZERO_BYTES = 4, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How matrices [in, out] are held: as numbers of a narrow type, times a float32 scale of each group of inputs and each output.

    Args:
      kinds: of those matrices, as `models/tensors.py` calls them; all else has the model's dtype.
      group: inputs that share a scale; None for all of a matrix.
      dtype: of the numbers, as ml_dtypes names it.
      has_zeros: each scale has a number of int8 beside it that stands for 0; else 0 does.
      rounds_prompts: steps with prompts round activations to FP8, too, by a scale of each token, so that their products are in 8 bits; of
        matrices in FP8 with a scale of each output.
    """

    kinds: tuple[str, ...]
    group: int | None = None
    dtype: str = FP8
    has_zeros: bool = False
    rounds_prompts: bool = False

    @property
    def most(self) -> float:
        """Largest number."""
        return {FP8: MOST_FP8, INT4: 7.0}[self.dtype]

    def groups(self, inputs: int) -> int:
        """J: scales of each output of a matrix with so many inputs."""
        return 1 if self.group is None else inputs // self.group

    def matrix_bytes(self, inputs: int, outputs: int) -> float:
        """Of one matrix."""
        return outputs * (inputs * _BYTES[self.dtype] + (_SCALE_BYTES + _ZERO_BYTES * self.has_zeros) * self.groups(inputs))
