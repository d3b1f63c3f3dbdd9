"""`muxjax compile`: the programs of models are compiled into the folder where `muxjax serve` will find them."""

import os
import sys

from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.units import show_bytes
from muxjax.whole_file import keeps_files

_MOST_TOLD = 3


def run(options: UnitOptions, chip: str, *, tune: bool = False) -> int:
    """Compiles what the folder does not hold; 1 if a program cannot be compiled or kept.

    Args:
      tune: XLA's kernels are tried first, on the GPU at hand.
    Raises:
      ConfigError: a model cannot be served, the folder cannot be written, a chip is not known, or there is none to try kernels on.
    """
    if tune and chip:
        raise ConfigError(f"tune tries kernels on the GPU at hand, so chip must not be given, got {chip!r}", field="tune")
    folder = options.compilation_cache_dir
    if not folder or not keeps_files(folder, field="compilation_cache_dir"):
        raise ConfigError(f"compilation_cache_dir must be a folder that can be written to, got {folder!r}", field="compilation_cache_dir")
    if tune:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA calls each choice that is still to be made an error
    from muxjax.launch.compile_ahead import compile_ahead  # imports JAX, which takes seconds

    held = compile_ahead(options, chip, tune=tune)
    if tune:
        print(f"kernels tried for {held.tuned} steps" if held.tuned else "no step was left to be tuned")
    what = f"{held.compiled} compiled now" if held.compiled else "nothing was missing" if not held.troubles else "none compiled now"
    print(f"{held.programs} programs, {show_bytes(held.total_bytes)}, in {folder}; {what}")
    for trouble in held.troubles[:_MOST_TOLD]:
        print(f"muxjax: a program is missing: {trouble[:500]}", file=sys.stderr)
    return 1 if held.troubles else 0
