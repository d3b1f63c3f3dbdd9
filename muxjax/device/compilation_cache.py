"""Compilation cache: compiled programs outlive the process, and a second start reads what the first one compiled."""

from pathlib import Path

import jax


def keep_in(folder: str) -> None:
    """Has JAX keep every program, and what XLA found by autotuning, in that folder; "" keeps none.

    For the whole process, from now on. A program belongs to the device, the versions and the size of the arena it was compiled for.
    """
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()) if folder else None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
