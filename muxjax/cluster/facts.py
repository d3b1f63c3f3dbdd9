"""The facts of a unit elsewhere as a request checker of this process."""

from collections.abc import Mapping

from muxjax.cluster.wire.messages import Facts, ModelFact
from muxjax.engine.grammar import Grammars
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import ModelOptions
from muxjax.engine.request_checker import ModelFacts, RequestChecker
from muxjax.model_spec import ModelSpec
from muxjax.specs.config import read_spec


def checker_of(facts: Facts, grammars: Mapping[str, Grammars | None]) -> RequestChecker:
    """The checker by which that unit checks; grammars are compiled here as they are there."""
    return RequestChecker(
        models={fact.name: _model_facts(fact, grammars.get(fact.name)) for fact in facts.models}, total_blocks=facts.total_blocks
    )


def spec_of(model: ModelOptions) -> ModelSpec:
    """The model as a worker will find it.

    Raises:
      ConfigError, CheckpointError: its configuration cannot be read.
    """
    return read_spec(model.path, **model.reading)


def _model_facts(fact: ModelFact, grammars: Grammars | None) -> ModelFacts:
    config = ModelConfig(
        name=fact.name,
        layout=fact.layout,
        slots=fact.slots,
        max_tokens=fact.max_tokens,
        vocab=fact.vocab,
        pools=fact.pools,
        max_loras=fact.max_loras,
        grammars=grammars,
    )
    return ModelFacts(config=config, status=fact.status, trouble=fact.trouble)
