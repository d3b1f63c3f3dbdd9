"""Accelerators: what they can do, and how much of it whole steps reach."""

from dataclasses import dataclass, fields

from muxjax.errors import require

MOST = 1e30
"""Of any of a chip's numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """An accelerator: what it can do, and how much of it whole steps reach.

    Args:
      flops_per_s: dense bf16; memory_bytes_per_s: read or written.
      link_bytes_per_s: to the other devices of its node, one way.
      compute_frac, memory_frac: of these, what a whole prefill or decode step reaches.
      launch_s: a layer's launches and small kernels; reduce_s: one all-reduce of nothing.
    Raises:
      ConfigError: a number outside its range.
    """

    name: str
    memory_bytes: int
    flops_per_s: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    compute_frac: float
    memory_frac: float
    launch_s: float
    reduce_s: float

    def __post_init__(self):
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            require(0 < value <= MOST, field.name, value, f"over 0, to {MOST:g}")

    @property
    def family(self) -> str:
        """What all of its kind have in their names, as "A100" of "A100-80GB"."""
        return self.name.partition("-")[0]


A100 = Chip(
    name="A100-80GB",
    memory_bytes=80 * 10**9,
    flops_per_s=312e12,
    memory_bytes_per_s=2.039e12,
    link_bytes_per_s=300e9,
    compute_frac=0.58,
    memory_frac=0.8,
    launch_s=110e-6,
    reduce_s=40e-6,
)
"""Fractions fitted to MuxServe's latency profile (2024, eager PyTorch)."""


H100 = Chip(
    name="H100",
    memory_bytes=80 * 10**9,
    flops_per_s=790e12,
    memory_bytes_per_s=3.35e12,
    link_bytes_per_s=450e9,
    compute_frac=0.764,
    memory_frac=0.953,
    launch_s=42e-6,
    reduce_s=21.6e-6,
)
"""Not measured: the H200's compute (the same die), fractions and delays beside the data sheet's memory and links."""


H200 = Chip(
    name="H200",
    memory_bytes=141 * 10**9,
    flops_per_s=790e12,
    memory_bytes_per_s=4.3e12,
    link_bytes_per_s=450e9,
    compute_frac=0.764,
    memory_frac=0.953,
    launch_s=42e-6,
    reduce_s=21.6e-6,
)
"""Ceilings measured on one device; fractions and delays by `scripts.bench_calibration --fit` from the shipped table; links from the data
sheet."""


B200 = Chip(
    name="B200",
    memory_bytes=180 * 10**9,
    flops_per_s=2250e12,
    memory_bytes_per_s=8e12,
    link_bytes_per_s=900e9,
    compute_frac=0.61,
    memory_frac=0.854,
    launch_s=42e-6,
    reduce_s=21.6e-6,
)
"""Not measured. An eighth of what NVIDIA's DGX B200 data sheet says: 1,440 GB at 64 TB/s, 72 PFLOP/s of sparse FP8 (a quarter of it in
dense bf16), NVLink of 14.4 TB/s both ways together. Fractions: what the H200's come to on its own data sheet."""


CHIPS = {"A100": A100, "H100": H100, "H200": H200, "B200": B200}
"""By the names that a problem file gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSpec:
    """Devices of one node that serve a model together, tensor-parallel of degree tp.

    Args:
      bytes_per_weight, bytes_per_kv: as they hold a weight, and an element of the cache.
    """

    chip: Chip
    tp: int = 1
    bytes_per_weight: float = 2
    bytes_per_kv: int = 2

    @property
    def usual(self) -> bool:
        """Whether weights and cache are held as they are measured: in 16 bits."""
        return self.bytes_per_weight == self.bytes_per_kv == 2
