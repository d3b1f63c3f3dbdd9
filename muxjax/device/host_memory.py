"""Memory of the host that holds nothing, given back to the system: pages of zeros, and what its allocator keeps of what was freed."""

import ctypes
import mmap
import sys

import jax

_LINUX = sys.platform == "linux"


def drop_zeros(zeros: jax.Array) -> jax.Array:
    """The array, of zeros throughout; where it lies in the host's memory it takes some only as it is written.

    Source: madvise(2). Linux gives back zeros for private pages that were advised away, as XLA's of a CPU are.
    """
    if _LINUX:
        for shard in zeros.addressable_shards:
            if shard.device.platform == "cpu":
                _advise_away(shard.data.unsafe_buffer_pointer(), shard.data.nbytes)
    return zeros


def trim() -> None:
    """Has the allocator give back what it keeps of freed memory; compiling leaves hundreds of MB of it. Nothing where it is not glibc's."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(ctypes.c_size_t(0))


def _advise_away(pointer: int, length: int) -> None:
    """Whole pages of the stretch, whose content is zeros from then on; an error leaves them as they are, which are zeros too."""
    first = -(-pointer // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (pointer + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)
