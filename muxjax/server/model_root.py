"""Folders that models may be loaded from over HTTP: who has the admin key has not thereby the machine's files."""

from dataclasses import replace
from pathlib import Path

from muxjax.engine.options import ModelOptions
from muxjax.errors import RequestError


def confined(model: ModelOptions, root: Path | None) -> ModelOptions:
    """The model with its paths resolved, links and all.

    Args:
      root: what they must lie under; they may be written relative to it. None for anywhere, but a template must lie in the model's folder.
    Raises:
      RequestError: 400, a path that leads elsewhere, or a template that is no jinja file.
    """
    path = confined_folder(model.path, root)
    model = replace(model, loras=tuple(replace(lora, path=confined_folder(lora.path, root)) for lora in model.loras))
    if model.chat_template is None:
        return replace(model, path=path)
    template = _resolved(model.chat_template, root or model.path, "chat_template")
    _require_under(template, root or path, "chat_template", "the model root" if root else "the model's folder")
    if {template.suffix, model.chat_template.suffix} != {".jinja"}:
        raise RequestError("chat_template must be a file that is called *.jinja", param="chat_template", code="model_refused")
    return replace(model, path=path, chat_template=template)


def confined_folder(folder: Path, root: Path | None) -> Path:
    """A folder of weights, links and all; as of `confined`."""
    path = _resolved(folder, root, "path")
    if root is not None:
        _require_under(path, root, "path", "the model root")
        for file in _files(path):
            _require_under(file, root, "path", "the model root, and so must all files of the model")
    return path


_READ = ("*.json", "*.safetensors", "chat_template.jinja", "additional_chat_templates/*.jinja")


def _files(folder: Path) -> list[Path]:
    """What may be read of a model, where links lead to."""
    try:
        return [file.resolve() for pattern in _READ for file in folder.glob(pattern)]
    except (OSError, RuntimeError) as error:  # a circle of links
        raise RequestError("path has files that cannot be read", param="path", code="model_refused") from error


def _resolved(path: Path, base: Path | None, field: str) -> Path:
    try:
        return ((base or Path()) / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a circle of links
        raise RequestError(f"{field} is no path", param=field, code="model_refused") from error


def _require_under(path: Path, folder: Path, field: str, called: str) -> None:
    """Told alike whether there is such a file or not."""
    if not path.is_relative_to(folder.resolve()):
        raise RequestError(f"{field} must lie in {called}", param=field, code="model_refused")
