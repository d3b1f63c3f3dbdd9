"""GPUs as NVIDIA's driver tells of them: nothing is taken of them, as JAX would."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

_ASK_S = 20
_MIB = 2**20


class Gpu(NamedTuple):
    """Memory of one: what everybody has of it, and all there is."""

    name: str
    used_bytes: int
    total_bytes: int


def gpus(environment: Mapping[str, str]) -> list[Gpu]:
    """Those that this process may use; none where nobody tells."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    command = ["nvidia-smi", "--query-gpu=memory.used,memory.total,name", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        told = subprocess.run(
            [*command, *([f"--id={visible}"] if visible else [])], capture_output=True, text=True, check=True, timeout=_ASK_S
        ).stdout
        return [_gpu(line) for line in told.splitlines() if line.strip()]
    return []


def _gpu(line: str) -> Gpu:
    used, total, name = line.split(",", 2)
    return Gpu(name.strip(), int(used) * _MIB, int(total) * _MIB)
