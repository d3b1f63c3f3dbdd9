"""Files of a checkpoint's folder that the server needs: tokenizer, chat template, sampling defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError
from muxjax.server.catalog import ServedModel
from muxjax.server.sampling_defaults import SamplingDefaults, load_defaults
from muxjax.server.text.config_files import read_config
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.template_files import load_template
from muxjax.server.text.tokenizer import ByteText, Text, TokenizerText
from muxjax.types import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A checkpoint's files but its weights; read first, because that is quick and may fail.

    Args:
      text: None stands for a `ByteText`.
    """

    options: ModelOptions
    text: Text | None
    template: ChatTemplate | None
    defaults: SamplingDefaults
    tokenizer_config: Mapping[str, Any]

    @classmethod
    def read(cls, options: ModelOptions) -> "ModelFiles":
        """Raises ConfigError: no such folder, no tokenizer.json where weights are real, or a file that cannot be read."""
        if not _is_folder(options.path):
            raise ConfigError(f"model {options.name}: {str(options.path)[:200]} is no folder", field="path")
        tokenizer = options.path / "tokenizer.json"
        if not tokenizer.exists() and options.load_format != "dummy":
            raise ConfigError(f"model {options.name}: {tokenizer} is missing", field="path")
        return cls(
            options=options,
            text=TokenizerText(tokenizer) if tokenizer.exists() else None,
            template=load_template(options.path, options.chat_template),
            defaults=load_defaults(options.path),
            tokenizer_config=read_config(options.path / "tokenizer_config.json"),
        )

    def served(self, spec: ModelSpec, *, max_model_len: int, created: int) -> ServedModel:
        return ServedModel(
            name=self.options.name,
            aliases=self.options.aliases,
            text=self.text or ByteText(spec.vocab),
            template=self.template,
            defaults=self.defaults,
            spec=spec,
            max_model_len=max_model_len,
            created=created,
            tokenizer_config=self.tokenizer_config,
        )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False
