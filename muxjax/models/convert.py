"""Checkpoints from Hugging Face's format to Orbax's, and back."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.models.checkpoint import Advance, Checkpoint
from muxjax.models.formats import is_orbax, open_checkpoint
from muxjax.models.hf_weights import split_stacks
from muxjax.models.orbax_io import save
from muxjax.models.safetensors_io import INDEX, write_shards
from muxjax.progress import followed
from muxjax.specs.config import read_spec
from muxjax.specs.fields import Fields
from muxjax.specs.with_pictures import text_fields

SHARD_BYTES = 4 * 2**30
_COMPANIONS = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "README*")


def convert(src: Path, dst: Path, *, progress: bool = True) -> None:
    """Writes the checkpoint of one format as the other, bit for bit, with config, tokenizer and chat template beside it.

    Host memory must hold a share of one array of the tree to Orbax, and to Hugging Face one shard of the files and one array of the tree.

    Args:
      dst: a folder that does not exist, or is empty; it appears whole or not at all.
      progress: shows the bytes read on stderr.
    Raises:
      ConfigError: dst is in use, or the config is not supported; or src is an Orbax folder of quantised weights.
      CheckpointError: the weights are not those of the config, or cannot be read.
    """
    if dst.exists() and not (dst.is_dir() and not any(dst.iterdir())):
        raise ConfigError(f"{dst} must be an empty folder or not exist", field="dst")
    spec = read_spec(src)
    if spec.quantization and is_orbax(src):
        raise ConfigError(f"{src} holds quantised weights, which are converted to Orbax alone: use the folder it was made of", field="src")
    checkpoint = open_checkpoint(src, spec)
    with _appearing(dst) as folder:
        _copy_companions(src, folder)
        _settle_config(folder / "config.json", spec)
        bytes_read = followed(dst.name, "B", checkpoint.stored_bytes, leave=True) if progress else nullcontext(lambda count: None)
        with bytes_read as advance:
            write = _write_hf if is_orbax(src) else save
            write(folder, checkpoint, spec, advance)


def _write_hf(folder: Path, checkpoint: Checkpoint, spec: ModelSpec, advance: Advance) -> None:
    stacks = ((path, checkpoint.read(path, advance=advance)) for path in checkpoint.dtypes)
    write_shards(folder, split_stacks(stacks, spec), shard_bytes=SHARD_BYTES)


def _copy_companions(src: Path, folder: Path) -> None:
    files = {file for pattern in _COMPANIONS for file in src.glob(pattern) if file.is_file()}
    for file in files - {src / INDEX}:
        shutil.copyfile(file, folder / file.name)


def _settle_config(path: Path, spec: ModelSpec) -> None:
    """Says in the copied config.json what only the weights said, as the other format's may not: the dtype, a head of its own; and nothing
    of quantised weights that are written whole, nor of what reads pictures."""
    config = json.loads(path.read_text(encoding="utf-8"))
    settled = {**text_fields(Fields(where=str(path), values=config)).values} | {"tie_word_embeddings": spec.tied}
    if spec.quantization is None:
        settled.pop("quantization_config", None)
    if not (settled.get("dtype") or settled.get("torch_dtype")):
        settled |= {"torch_dtype": spec.dtype}
    if settled != {"tie_word_embeddings": False} | config:
        path.write_text(json.dumps(settled, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _appearing(dst: Path) -> Iterator[Path]:
    """A folder beside dst that takes its place at the end, or goes away with everything in it if an exception passes."""
    dst.parent.mkdir(parents=True, exist_ok=True)
    folder = dst.parent / f".{dst.name}.{os.getpid()}.part"
    folder.mkdir()
    try:
        yield folder
        folder.replace(dst)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
