"""Formats of checkpoints: a folder is opened by the one it is in."""

from pathlib import Path

from muxjax.model_spec import ModelSpec
from muxjax.models.checkpoint import PARAMS, Checkpoint
from muxjax.models.hf_weights import HfFolder


def open_checkpoint(folder: Path, spec: ModelSpec) -> Checkpoint:
    """A Hugging Face (safetensors) or Orbax folder.

    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the model's.
    """
    if not is_orbax(folder):
        return HfFolder(folder, spec)
    from muxjax.models.orbax_io import OrbaxFolder  # here, because Orbax takes seconds to import

    return OrbaxFolder(folder, spec)


def is_orbax(folder: Path) -> bool:
    return (folder / PARAMS).is_dir()
