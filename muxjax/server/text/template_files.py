"""Files in which a checkpoint keeps its chat templates."""

from collections.abc import Mapping
from pathlib import Path

from muxjax.errors import ConfigError
from muxjax.server.text.config_files import read_config
from muxjax.server.text.template import ChatTemplate
from muxjax.specs.tokens import special_texts


def load_template(folder: Path, override: Path | None = None) -> ChatTemplate | None:
    """The template of a file, or else those of a checkpoint; None where there is none.

    A checkpoint's are chat_template.jinja and additional_chat_templates/*.jinja, or where neither is there, those that
    tokenizer_config.json holds: one, or several by name; or that of chat_template.json, where models that read pictures may have theirs.
    The one named `tool_use` is for chats with tools, `default` for the others.

    Raises:
      ConfigError: a file is missing or no template.
    """
    if override is not None:
        return ChatTemplate(_read(override), special_texts(folder), name=override.name)
    name, sources = next(((name, found) for name, read in _SOURCES.items() if (found := read(folder))), ("", {}))
    default, tool_use = sources.get("default"), sources.get("tool_use")
    if default is None and tool_use is None:
        return None
    return ChatTemplate(default, special_texts(folder), tool_use=tool_use, name=name)


def _from_files(folder: Path) -> dict[str, str]:
    own, others = folder / "chat_template.jinja", sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return {**({"default": _read(own)} if own.exists() else {}), **{path.stem: _read(path) for path in others}}


def _from_config(folder: Path) -> dict[str, str]:
    configured = read_config(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(configured, Mapping):
        return {name: template for name, template in configured.items() if isinstance(template, str)}
    if isinstance(configured, list):
        named = {entry.get("name"): entry.get("template") for entry in configured if isinstance(entry, Mapping)}
        return {str(name): template for name, template in named.items() if isinstance(template, str)}
    return {"default": configured} if isinstance(configured, str) else {}


def _of_processor(folder: Path) -> dict[str, str]:
    configured = read_config(folder / "chat_template.json").get("chat_template")
    return {"default": configured} if isinstance(configured, str) else {}


_SOURCES = {"chat_template.jinja": _from_files, "tokenizer_config.json": _from_config, "chat_template.json": _of_processor}
"""By the name that errors have; the first that has any."""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the chat template {path}: {error}", field="chat_template") from error
