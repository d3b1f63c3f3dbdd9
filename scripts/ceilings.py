"""What the device in hand can do: the two rates that every speed is measured against, and the way things are timed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Measured rates: a bf16 matrix product on random data, and a copy within the device, bytes read plus bytes written."""

    flops_per_s: float
    bytes_per_s: float

    def __str__(self) -> str:
        return f"{self.flops_per_s / 1e12:.4g} TFLOP/s, {self.bytes_per_s / 1e12:.3g} TB/s"


def measure(*, tiny: bool = False) -> Ceilings:
    """Of the default device: a product of 8192^3 and a copy of 4 GiB; small ones with `tiny`."""
    width, copied_bytes = (256, 2**20) if tiny else (8192, 2**32)
    left, right = (jax.random.normal(jax.random.key(i), (width, width), jnp.bfloat16) for i in range(2))
    whole = jax.random.bits(jax.random.key(2, impl="rbg"), (copied_bytes // 4,), jnp.uint32)
    product, copy = jax.jit(jnp.matmul), jax.jit(jnp.copy)
    product_s = seconds(lambda calls: [product(left, right) for _ in range(calls)][-1], calls=4 if tiny else 40)
    copy_s = seconds(lambda calls: [copy(whole) for _ in range(calls)][-1], calls=4)
    return Ceilings(flops_per_s=2 * width**3 / product_s, bytes_per_s=2 * copied_bytes / copy_s)


def seconds(launch: Callable[[int], Any], *, calls: int) -> float:
    """Of one call in a long row of them: what so many more calls take, by which the first launch and the last wait do not count.

    Args:
      launch: launches so many calls one after another and returns what the last one makes.
    """

    def wall_s(count: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(launch(count))
        return time.perf_counter() - started

    wall_s(2)
    spent = [(wall_s(2 * calls) - wall_s(calls)) / calls for _ in range(REPEATS)]
    return max(statistics.median(spent), 1e-9)
