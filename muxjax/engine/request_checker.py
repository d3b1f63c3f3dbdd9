"""Refusal of requests before anything is kept of them: pure, by facts that any front may hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from muxjax.engine.bad_words import BadWords
from muxjax.engine.grammar import CompiledGrammar
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.stats import Status
from muxjax.engine.token_controls import check_controls
from muxjax.errors import RequestError
from muxjax.types import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model as requests meet it.

    Args:
      trouble: why it has failed, if it has.
    """

    config: ModelConfig
    status: Status
    trouble: str = ""

    def require_ready(self) -> None:
        """Raises RequestError: it takes no requests now (503)."""
        name = self.config.name
        if self.status is Status.FAILED:
            raise RequestError(f"The model `{name}` has failed: {self.trouble}.", param="model", code="model_failed", status=503)
        if self.status is not Status.READY:
            raise RequestError(f"The model `{name}` is {self.status.value}.", param="model", code="model_loading", status=503)


class Prepared(NamedTuple):
    """What takes time to make of a request, and is there as long as somebody holds it: the engine's thread then finds it made."""

    grammar: CompiledGrammar | None
    bad_words: BadWords
    adapter: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestChecker:
    """A unit's public facts: what it serves, and with how large a cache. Replaced by the unit whenever one of them changes."""

    models: Mapping[str, ModelFacts]
    total_blocks: int

    def check(self, request: Request, *, prepared: bool = False) -> None:
        """All there is to check of a request: `Unit.submit` takes one that has passed, unless these facts have changed since.

        Args:
          prepared: it has passed `prepare`; what is left is quick.

        Raises:
          RequestError: it could never be served (no such model, too long, larger than the whole cache, tokens or a grammar that the model
            cannot have), or its model takes none now.
        """
        facts = self._facts(request.model)
        facts.require_ready()
        self._check_size(request, facts.config)
        if not prepared:
            self._check_contents(request, facts.config)

    def prepare(self, request: Request) -> Prepared:
        """Checks and makes what takes time, for all choices of an answer: what it wants of its tokens, whatever its model's status.

        Raises:
          RequestError: the model does not exist, or cannot do what the request wants of its tokens.
        """
        config, grammar = self._facts(request.model).config, request.sampling.grammar
        compiled = config.grammars.compiled(grammar) if config.grammars and grammar else None
        self._check_contents(request, config)
        adapter = config.hold_adapter(request.adapter) if config.hold_adapter and request.adapter else None
        return Prepared(compiled, BadWords.of(request.sampling.bad_words), adapter)

    def still_fits(self, request: Request) -> bool:
        """A request that has passed `check` under earlier facts can be served under these."""
        facts = self.models.get(request.model)
        if facts is None or not facts.status.serves:
            return False
        return facts.config.layout.blocks(request.most_tokens - 1) <= self.total_blocks

    def _facts(self, model: str) -> ModelFacts:
        facts = self.models.get(model)
        if facts is None:
            raise RequestError(f"The model `{model}` does not exist.", param="model", code="model_not_found", status=404)
        return facts

    def _check_contents(self, request: Request, config: ModelConfig) -> None:
        check_prompt(request.prompt, config.vocab)
        check_controls(request.sampling, config.vocab, config.grammars)
        if request.adapter and not config.max_loras:
            raise RequestError(f"The model `{config.name}` has no place for adapters.", param="model", code="unsupported_value")
        if request.sampling.pooling and not config.pools:
            raise RequestError(f"The model `{config.name}` makes no embeddings.", param="model", code="unsupported_value")

    def _check_size(self, request: Request, config: ModelConfig) -> None:
        tokens = request.most_tokens
        if tokens > config.max_tokens:
            raise RequestError(
                f"This model's maximum context length is {config.max_tokens} tokens. However, you requested {tokens} tokens "
                f"({len(request.prompt)} in the prompt, {request.sampling.max_tokens} to generate).",
                param="prompt",
                code="context_length_exceeded",
            )
        needed = config.layout.blocks(tokens - 1)
        if needed > self.total_blocks:
            raise RequestError(
                f"{tokens} tokens need {needed} head blocks of cache, and the server has {self.total_blocks} in all",
                param="max_tokens",
                code="context_length_exceeded",
            )


def check_prompt(prompt: Sequence[int], vocab: int, *, param: str = "prompt", spell: Callable[[int], str] | None = None) -> None:
    """Checks the tokens of a prompt, wherever they come from: text, a template or a client's own.

    Args:
      spell: a token as its author knows it.
    Raises:
      RequestError: the model has no such token; a tokenizer may have more of them than the model has rows.
    """
    if not prompt or (min(prompt) >= 0 and max(prompt) < vocab):
        return
    token = next(token for token in prompt if not 0 <= token < vocab)
    spelled = f", {spell(token)[:50]!r}," if spell else ""
    raise RequestError(
        f"Token {token}{spelled} is out of the model's vocabulary, which has tokens from 0 to {vocab - 1}.",
        param=param,
        code="invalid_value",
    )
