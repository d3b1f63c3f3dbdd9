"""Memory of a GPU from CUDA's driver itself, in the context that all of a process's clients use."""

import ctypes

_OUT_OF_MEMORY = 2


class CudaMemory:
    """So many bytes of a GPU, zeroed.

    Raises:
      MemoryError: there are not so many in one piece.
      OSError: there is no driver, or it refuses.
    """

    def __init__(self, size: int, ordinal: int):
        context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), _device(ordinal))
        self._context = context
        with self:
            _call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
            self.pointer = int(pointer.value)
            _call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(0), ctypes.c_size_t(size))
            _call("cuCtxSynchronize")

    def free(self) -> None:
        """Gives it back; nobody uses it any more."""
        with self:
            _call("cuMemFree_v2", ctypes.c_uint64(self.pointer))

    def __enter__(self) -> None:
        _call("cuCtxPushCurrent_v2", self._context)

    def __exit__(self, *_: object) -> None:
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


def total_bytes(ordinal: int) -> int:
    """Of a GPU, whoever uses them.

    Raises:
      OSError: there is no driver, or it refuses.
    """
    total = ctypes.c_size_t()
    _call("cuDeviceTotalMem_v2", ctypes.byref(total), _device(ordinal))
    return total.value


def _device(ordinal: int) -> ctypes.c_int:
    device = ctypes.c_int()
    _call("cuInit", 0)
    _call("cuDeviceGet", ctypes.byref(device), ordinal)
    return device


def _call(name: str, *arguments: object) -> None:
    code = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    if code == _OUT_OF_MEMORY:
        raise MemoryError(f"{name}: the GPU has not so much memory in one piece")
    if code:
        raise OSError(f"{name} of CUDA's driver failed with {code}")
