"""Where measurements come from: the tree's commit, and the versions of what made them."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("numpy", "jax")


def commit() -> str:
    """Commit of the tree that this code is in; $MUXJAX_COMMIT where it travelled without its history."""
    if stated := os.environ.get("MUXJAX_COMMIT"):
        return stated
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and the packages that decide how fast steps are."""
    return {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in PACKAGES}
