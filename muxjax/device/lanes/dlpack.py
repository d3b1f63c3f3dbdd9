"""A DLPack capsule of memory that nobody but us has allocated.

Source: the struct DLManagedTensor of the DLPack specification, unversioned (https://dmlc.github.io/dlpack/latest/c_api.html).
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

CPU, CUDA = 1, 2
"""Kinds of devices."""
_CODES = {"i": 0, "u": 1, "f": 2}
_BFLOAT16 = 4


_NOTHING = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p)
"""What importers call when they let go, from any thread and after Python's end: a function in C that changes nothing."""


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class Export:
    """Memory as an array of whole rows that another library may import, as often as it likes, while this object and the memory live.

    Args:
      pointer: where it begins.
      kind, index: of the device it lies on.
    """

    def __init__(self, pointer: int, shape: Sequence[int], dtype: np.dtype, *, kind: int, index: int):
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        code = _BFLOAT16 if dtype == jnp.bfloat16 else _CODES[dtype.kind]
        tensor = _Tensor(pointer, _Device(kind, index), len(shape), _DType(code, 8 * dtype.itemsize, 1), self._shape, None, 0)
        self._managed = _ManagedTensor(tensor, None, _NOTHING)

    def capsule(self) -> Any:
        """A capsule for one import."""
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(self._managed), b"dltensor", None)
