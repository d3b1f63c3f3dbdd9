"""Files of a checkpoint's folder that the server needs: tokenizer, chat template, sampling defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.engine.options import LoraOptions, ModelOptions
from muxjax.errors import ConfigError, MuxError, shown
from muxjax.model_spec import ModelSpec
from muxjax.server.answers.dialect import dialect_of
from muxjax.server.catalog import ServedModel
from muxjax.server.sampling_defaults import SamplingDefaults, load_defaults
from muxjax.server.text.config_files import read_config
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.template_files import load_template
from muxjax.server.text.tokenizer import ByteTokenizer, HfTokenizer, Tokenizer
from muxjax.specs.config import read_spec
from muxjax.specs.folders import require_folder, require_model_folder, require_tokenizer
from muxjax.specs.pooling import read_pooling
from muxjax.specs.tokens import tokenizer_file
from muxjax.types import Adapter, Pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A checkpoint's files but its weights; read first, because that is quick and may fail.

    Args:
      tokenizer: None stands for a `ByteTokenizer`.
    """

    options: ModelOptions
    tokenizer: Tokenizer | None
    template: ChatTemplate | None
    defaults: SamplingDefaults
    tokenizer_config: Mapping[str, Any]
    pooling: Pooling | None
    adapters: tuple[Adapter, ...]

    @classmethod
    def read(cls, options: ModelOptions) -> "ModelFiles":
        """
        Raises:
          ConfigError: no such folder, no config.json or tokenizer where weights are real, a file that cannot be read, or an adapter
            that is none of this model.
        """
        _require_files(options)
        tokenizer = tokenizer_file(options.path)
        return cls(
            options=options,
            tokenizer=HfTokenizer(tokenizer) if tokenizer else None,
            template=load_template(options.path, options.chat_template),
            defaults=load_defaults(options.path, options.name),
            tokenizer_config=read_config(options.path / "tokenizer_config.json"),
            pooling=read_pooling(options.path, options.pooling),
            adapters=_open_loras(options),
        )

    def served(self, spec: ModelSpec, *, max_model_len: int, created: int) -> tuple[ServedModel, ...]:
        """The model, and behind it its adapters."""
        tokenizer = self.tokenizer or ByteTokenizer(spec.vocab)
        model = ServedModel(
            name=self.options.name,
            aliases=self.options.aliases,
            tokenizer=tokenizer,
            template=self.template,
            defaults=self.defaults.within(spec),
            spec=spec,
            max_model_len=max_model_len,
            created=created,
            dialect=dialect_of(
                self.template.tools_source if self.template else "",
                tokenizer.marks,
                ends=spec.eos_ids,
                tool_call_parser=self.options.tool_call_parser,
                reasoning_parser=self.options.reasoning_parser,
            ),
            max_grammar_characters=self.options.max_grammar_characters,
            tokenizer_config=self.tokenizer_config,
            pooling=self.pooling,
        )
        return (model, *map(model.under, self.adapters))


def require_same_tokens(name: str, tokenizer: Tokenizer | None, drafting: str, other: Tokenizer | None) -> None:
    """Raises ConfigError: tokens that a model and its draft model both have are not the same ones."""
    own, others = (each.vocabulary() if each else {} for each in (tokenizer, other))
    last = min(max(own.values(), default=-1), max(others.values(), default=-1))
    unlike = {text for text, _ in own.items() ^ others.items() if own.get(text, last) <= last and others.get(text, last) <= last}
    if unlike:
        raise ConfigError(
            f"{drafting} cannot draft for {name}: {len(unlike):,} of their tokens differ, such as"
            f" {shown(min(unlike))}; a draft model has the same tokenizer",
            field="speculative_config",
        )


def require_drafts_in_own_tokens(files: Sequence[ModelFiles]) -> None:
    """Raises ConfigError: a model's draft model has another tokenizer."""
    named = {file.options.name: file for file in files}
    for file in files:
        drafting = file.options.draft_model
        if drafting in named:
            require_same_tokens(file.options.name, file.tokenizer, drafting, named[drafting].tokenizer)


def _open_loras(model: ModelOptions) -> tuple[Adapter, ...]:
    if not model.loras:
        return ()
    spec = read_spec(model.path, **model.reading)
    return tuple(open_lora(lora, model, spec) for lora in model.loras)


def open_lora(lora: LoraOptions, model: ModelOptions, spec: ModelSpec) -> Adapter:
    """The adapter of a folder, as the model of those options and that shape takes it.

    Raises:
      ConfigError: it is none, or not over that model.
    """
    from muxjax.models.lora.files import open_adapter

    try:
        return open_adapter(lora.name, lora.path.absolute(), spec, most_rank=model.max_lora_rank)
    except MuxError as error:
        raise ConfigError(f"adapter {lora.name} over {model.name}: {error}", field="loras") from error


def _require_files(options: ModelOptions) -> None:
    try:
        require_folder(options.path)
        if options.load_format != "dummy":
            require_model_folder(options.path)
            require_tokenizer(options.path)
    except MuxError as error:
        raise ConfigError(f"model {options.name}: {error}", field="path") from error
