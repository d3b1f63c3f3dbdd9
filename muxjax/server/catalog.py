"""The models behind one endpoint."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from muxjax import __version__
from muxjax.engine.options import GRAMMAR_CHARACTERS
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec
from muxjax.server.answers.dialect import PLAIN, Dialect
from muxjax.server.sampling_defaults import SamplingDefaults
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import Tokenizer
from muxjax.types import Adapter, Pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model as clients see it.

    Args:
      template: None where the checkpoint has no chat template.
      dialect: its own way of writing calls and reasoning.
      pooling: how its hidden states become embeddings; None for one that makes none.
      tokenizer_config: as the checkpoint has it.
      max_model_len: most tokens of prompt and output together.
      created: Unix time in seconds.
      max_grammar_characters: see `ModelOptions`.
      adapter, parent: of an adapter that is served like a model, with the name of the model that it is over.
    """

    name: str
    aliases: tuple[str, ...] = ()
    tokenizer: Tokenizer
    template: ChatTemplate | None
    defaults: SamplingDefaults
    spec: ModelSpec
    max_model_len: int
    created: int
    dialect: Dialect = PLAIN
    max_grammar_characters: int = GRAMMAR_CHARACTERS
    pooling: Pooling | None = None
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    adapter: Adapter | None = None
    parent: str | None = None

    @property
    def base(self) -> str:
        """Name of the model that computes for it."""
        return self.parent or self.name

    def under(self, adapter: Adapter) -> "ServedModel":
        """An adapter over this model, which has all from it but its name."""
        return replace(self, name=adapter.name, aliases=(), adapter=adapter, parent=self.name)

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: another one when answers may be others."""
        return "fp_" + hashlib.sha256(repr((__version__, self.name, self.spec, self.adapter)).encode()).hexdigest()[:10]


class Catalog:
    """Served models by name and alias, in the order of the configuration."""

    def __init__(self, models: Sequence[ServedModel]):
        self._hold(models)

    def add(self, *models: ServedModel) -> None:
        """More of them, behind the others; other threads may read meanwhile."""
        self._hold((*self._models, *models))

    def remove(self, name: str) -> tuple[ServedModel, ...]:
        """Forgets a model, and the adapters over it, by its name and aliases; requests that have it keep it."""
        going = tuple(model for model in self._models if name in (model.name, model.base))
        self._hold([model for model in self._models if name not in (model.name, model.base)])
        return going

    def _hold(self, models: Sequence[ServedModel]) -> None:
        self._models = tuple(models)
        self._by_name = {name: model for model in models for name in (model.name, *model.aliases)}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models)

    def holds(self, model: ServedModel) -> bool:
        """This very model is served, and not only another one of its name."""
        return any(other is model for other in self._models)

    def names(self) -> list[tuple[str, ServedModel]]:
        """Every name that a client may use, with its model."""
        return list(self._by_name.items())

    def base_of(self, name: str) -> str:
        """Name of the model that computes for what is served under that name; the name itself where nothing is."""
        return self._by_name[name].base if name in self._by_name else name

    def find(self, name: str | None) -> ServedModel:
        """The model of that name; without one the only model.

        Raises:
          RequestError: 404 for an unknown name, 400 for none where there are several.
        """
        if name is None and len(self._models) == 1:
            return self._models[0]
        if name is None:
            raise RequestError(f"model is required, one of {', '.join(self._by_name)}", param="model")
        if name not in self._by_name:
            raise RequestError(f"The model `{name[:200]}` does not exist.", param="model", code="model_not_found", status=404)
        return self._by_name[name]
