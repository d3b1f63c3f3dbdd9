"""Folders that are no checkpoint to serve: each is told what it is, and what to do.

A path that is given for a model may be a hub's name, a file, a LoRA adapter, pickled weights or pointers of git-lfs.
"""

import difflib
import re
from pathlib import Path

from muxjax.errors import CheckpointError, ConfigError
from muxjax.specs.tokens import TOKENIZER, tokenizer_file

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_POINTER = b"version https://git-lfs.github.com/spec/"
_CONVERT = "AutoModelForCausalLM.from_pretrained(FOLDER, dtype='auto').save_pretrained(NEW_FOLDER)"


def require_folder(path: Path, holding: str = "the model's config.json") -> None:
    """
    Args:
      holding: what the folder is to hold.
    Raises:
      ConfigError: the path is no folder; it says what is there instead.
    """
    try:
        if not path.is_dir():
            raise ConfigError(f"{str(path)[:200]} is no folder: {_what_is_there(path, holding)}", field="path")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)[:200]!r} is no folder: {str(error)[:200]}", field="path") from None


def require_model_folder(folder: Path) -> None:
    """
    Raises:
      ConfigError: the path is not a folder with config.json; it says what is there instead.
    """
    require_folder(folder)
    if (folder / "config.json").exists():
        require_no_pointer(folder / "config.json")
        return
    raise ConfigError(f"{folder / 'config.json'} does not exist: {_what_is_there(folder)}", field="path")


def require_tokenizer(folder: Path) -> None:
    """
    Raises:
      ConfigError: there is none; it says what to make one of.
    """
    path = tokenizer_file(folder)
    if path:
        require_no_pointer(path)
        return
    others = [name for name in ("vocab.json", "spiece.model") if (folder / name).exists()]
    way = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    more = f"; the folder has {', '.join(others)}, of which transformers makes one: {way}" if others else ""
    raise ConfigError(f"{folder / TOKENIZER} is missing{more}", field="path")


def require_no_pointer(path: Path) -> None:
    """
    Raises:
      CheckpointError: the file is what git leaves of one that git-lfs keeps.
    """
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:
        return  # whoever reads it says what is wrong
    if is_pointer:
        raise CheckpointError(f"{path} is a pointer of git-lfs, not the file: run `git lfs pull` in {path.parent}")


def no_weights(folder: Path) -> CheckpointError:
    """The error to raise of a folder without safetensors of the usual names, with the names of what it has."""
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    if "adapter_model.safetensors" in shards:
        return CheckpointError(f"{folder}: {_ADAPTER}")
    if shards:
        return CheckpointError(f"{folder} holds {_listed(shards)}, but {_missing(shards)}")
    if any(folder.glob("*.bin")):
        return CheckpointError(
            f"{folder} holds pickled weights (*.bin), which can run code when read; convert them with transformers: {_CONVERT}"
        )
    if ggufs := sorted(path.name for path in folder.glob("*.gguf")):
        return CheckpointError(f"{folder} holds {_listed(ggufs)}: {_GGUF}")
    return CheckpointError(
        f"{folder} holds no weights: neither model.safetensors, nor model.safetensors.index.json, nor the params/ of an Orbax folder"
    )


_GGUF = "GGUF is not served: give the folder of safetensors that it was made from"
_ADAPTER = (
    "it is a LoRA adapter, which is served over a model: give the model's folder as NAME=FOLDER, and this one as --lora OTHER=FOLDER:NAME"
)


def _what_is_there(folder: Path, holding: str = "") -> str:
    if folder.is_file():
        return f"it is a file; {_GGUF}" if folder.suffix.lower() == ".gguf" else "it is a file, and a folder is needed"
    if not folder.exists():
        return f"nothing is there{_where_it_may_be(folder, holding)}"
    if (folder / "adapter_config.json").exists():
        return _ADAPTER
    if any(folder.glob("*.gguf")):
        return _GGUF
    if (folder / "params.json").exists() and any(folder.glob("consolidated*")):
        return "the folder is in the format of who trained the model; take the one for transformers, with config.json and model.safetensors"
    models = sorted(config.parent.name for config in folder.glob("*/config.json"))
    inside = f"; {_listed(models)} in it {'have' if len(models) > 1 else 'has'} one: give that folder" if models else ""
    return f"a Hugging Face or Orbax folder has one{inside}"


def _where_it_may_be(folder: Path, holding: str) -> str:
    """What to do about a folder that is not there: one of nearly that name beside it, or a model of a hub."""
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    if near := difflib.get_close_matches(folder.name, beside, n=1):
        return f"; did you mean {folder.parent / near[0]}?"
    if _HUB_NAME.fullmatch(str(folder)):
        return f"; what a hub has is downloaded first: hf download {folder} --local-dir DIR, and then DIR is given"
    return f"; give the folder that holds {holding}"


def _missing(shards: list[str]) -> str:
    """What keeps shards from being a checkpoint: those that their numbers promise, and the index."""
    numbered = [match for name in shards if (match := re.fullmatch(r"(.+)-(\d{5})-of-(\d{5})\.safetensors", name))]
    if not numbered:
        return "neither model.safetensors nor model.safetensors.index.json"
    stem, _, total = numbered[0].groups()
    promised = [f"{stem}-{number:05d}-of-{total}.safetensors" for number in range(1, min(int(total), 9999) + 1)]
    absent = ["model.safetensors.index.json", *(name for name in promised if name not in shards)]
    return f"lacks {_listed(absent)}: download the rest"


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
