"""What one of several devices holds of a model: the same part of every matrix, wherever the whole of it lies, in memory or in a file."""

import math
from dataclasses import dataclass
from itertools import pairwise
from types import EllipsisType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.model_spec import ModelSpec
from muxjax.models.tensors import tensors

ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)
Index = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """One of so many equal shares of a model."""

    index: int = 0
    of: int = 1

    @staticmethod
    def each(of: int) -> "tuple[Share, ...]":
        """All of them."""
        return tuple(Share(index, of) for index in range(of))


WHOLE = Share()


class Piece(NamedTuple):
    """Stretch of a parameter that lies in one: where in the whole, and where in a share's part of it."""

    whole: Index
    part: Index


def split_axis(path: str, spec: ModelSpec) -> int | None:
    """The axis, from the last, along which the parameter at a dotted path is shared out; None if all hold the whole."""
    return tensors(spec)[path].split


def pieces(path: str, shape: tuple[int, ...], spec: ModelSpec, share: Share) -> tuple[Piece, ...]:
    """What a share has of a parameter of that shape, or of one layer of it, in their order: of matrices side by side, such as q, k and v,
    a piece of each. What no piece fills of the part is zero, as the last parts of a vocabulary that does not go round."""
    axis = split_axis(path, spec)
    if axis is None or share.of == 1:
        return (Piece((...,), (...,)),)
    found, place = [], 0
    for start, stop in _matrices(path, shape[axis], spec):
        size = -(-(stop - start) // share.of)
        first = min(start + size * share.index, stop)
        last = min(first + size, stop)
        found.append(Piece(_along(axis, first, last), _along(axis, place, place + last - first)))
        place += size
    return tuple(found)


def part_shape(path: str, shape: tuple[int, ...], spec: ModelSpec, shares: int) -> tuple[int, ...]:
    """Of one of so many parts of a parameter of that shape."""
    axis = split_axis(path, spec)
    if axis is None or shares == 1:
        return shape
    size = sum(-(-(stop - start) // shares) for start, stop in _matrices(path, shape[axis], spec))
    return _replaced(shape, axis, size)


def part(path: str, array: ArrayT, spec: ModelSpec, share: Share) -> ArrayT:
    """A share's part of a parameter, or of one layer of it; an array of numpy or of JAX, as the whole is."""
    axis = split_axis(path, spec)
    if axis is None or share.of == 1:
        return array
    arrays: Any = jnp if isinstance(array, jax.Array) else np
    joined = arrays.concatenate([array[piece.whole] for piece in pieces(path, array.shape, spec, share)], axis=axis)
    shape = part_shape(path, array.shape, spec, share.of)
    return joined if joined.shape == shape else arrays.pad(joined, [(0, to - has) for to, has in zip(shape, joined.shape, strict=True)])


def grain_shape(path: str, shape: tuple[int, ...], spec: ModelSpec, most_shares: int) -> tuple[int, ...]:
    """The largest box of one layer that no share of up to `most_shares` has in part only, as far as matrices go round."""
    axis = split_axis(path, spec)
    if axis is None:
        return shape
    least = min(stop - start for start, stop in _matrices(path, shape[axis], spec))
    grain = _replaced(shape, axis, -(-least // finest(spec, most_shares)))
    return (1, *grain[1:]) if len(shape) > 2 else grain


def finest(spec: ModelSpec, most: int) -> int:
    """The most shares, of a number that divides `most`, that a model can be cut into."""
    return math.gcd(most, *spec.split_sizes.values())


def _matrices(path: str, length: int, spec: ModelSpec) -> list[tuple[int, int]]:
    """Where the matrices that lie side by side in a parameter start and stop along its split axis."""
    return list(pairwise((0, *tensors(spec)[path].cuts, length)))


def _along(axis: int, first: int, last: int) -> Index:
    return (..., slice(first, last), *[slice(None)] * (-axis - 1))


def _replaced(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if place - len(shape) == axis else length for place, length in enumerate(shape))
