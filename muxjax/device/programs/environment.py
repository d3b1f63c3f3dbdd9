"""What every compiled program depends on, as one text: a change of any of it is another environment."""

import functools
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

import jax

_PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda13-pjrt", "flax")
_TRACED = ("cache", "device", "models", "pallas", "specs")
_TRACED_FILES = ("buckets", "experts", "model_spec", "types")
"""Packages and modules of muxjax whose code decides what a program computes."""


def environment(device_kind: str) -> str:
    """The chip by JAX's name, versions, the options that JAX and XLA compile under, and a digest of our own code."""
    parts = [
        f"chip={device_kind}" + (f"-{_cpu_digest()}" if device_kind == "cpu" else ""),
        *_versions(),
        f"x64={jax.config.jax_enable_x64}",  # pyright: ignore[reportAttributeAccessIssue]
        f"precision={jax.config.jax_default_matmul_precision}",  # pyright: ignore[reportAttributeAccessIssue]
    ]
    flags = os.environ.get("XLA_FLAGS")
    return " ".join([*parts, f"code={_code_digest()}", *([f"flags={flags}"] if flags else [])])


def _versions() -> list[str]:
    installed = {name: _version(name) for name in _PACKAGES}
    return [f"{name}={version}" for name, version in installed.items() if version]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _cpu_digest() -> str:
    """Of the instructions that this machine's processors have, where they are told: a program may use any of them."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else [platform.processor()]
    features = sorted({line.partition(":")[2] for line in lines if line.startswith(("flags", "Features", "model name"))} or set(lines))
    return hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()[:8]


@functools.cache
def _code_digest() -> str:
    """The same wherever the package lies."""
    package, digest = Path(__file__).parents[2], hashlib.sha256()
    files = [package / f"{name}.py" for name in _TRACED_FILES] + [path for name in _TRACED for path in (package / name).rglob("*.py")]
    for path in sorted(files):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
