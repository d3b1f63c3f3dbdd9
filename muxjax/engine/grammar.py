"""Structured output: masks over the vocabulary, token by token, so that an answer matches its grammar, by llguidance."""

import contextlib
import copy
import functools
import json
import logging
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from muxjax.deep_stack import on_deep_stack
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec
from muxjax.specs.tokens import tokenizer_text
from muxjax.types import Bits, Grammar, GrammarKind

COMPILED_GRAMMARS = 128
"""Grammars that are kept of each model, for requests that come with the same one again."""

_TRIED_TOKENS = 4
_NO_WAY = "it leads to where nothing can follow, or is too large"

_log = logging.getLogger(__name__)


class CompiledGrammar:
    """A grammar for one model's tokenizer, of which each answer takes a copy."""

    __slots__ = ("__weakref__", "start")

    def __init__(self, start: LLMatcher):
        self.start = start


class Grammars:
    """Compiles grammars for one model's tokenizer. May be used from any thread.

    Args:
      tokenizer: the text of a tokenizer.json.
      vocab: tokens of the model, of which its tokenizer may name fewer; those that it names beyond them cannot come.
      eos_ids: what ends an answer, where the grammar lets it end; with none, it ends where the grammar lets nothing follow.
    Raises:
      ValueError: the tokenizer is none that llguidance can read.
    """

    def __init__(self, tokenizer: str, *, vocab: int, eos_ids: Sequence[int]):
        self.eos_ids = tuple(eos_ids)
        self._tokenizer, self._vocab = _tokenizer_of(tokenizer, vocab, self.eos_ids), vocab
        self._special = _special_texts(tokenizer)
        self._recent = functools.lru_cache(maxsize=COMPILED_GRAMMARS)(self._held_or_compiled)
        self._held: weakref.WeakValueDictionary[Grammar, CompiledGrammar] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, folder: Path, spec: ModelSpec) -> "Grammars | None":
        """Compiler for the tokenizer of a model's folder; None if there is none that can be read, and then no request may have a grammar.

        Raises:
          ConfigError: as of `tokenizer_text`.
        """
        tokenizer = tokenizer_text(folder)
        if tokenizer is None:
            return None
        try:
            return cls(tokenizer, vocab=spec.vocab, eos_ids=spec.eos_ids)
        except ValueError as error:
            _log.warning("no structured output with %s: %s", folder, error)
            return None

    def compiled(self, grammar: Grammar) -> CompiledGrammar:
        """The grammar, compiled unless it is one of the last or somebody holds it.

        Raises:
          RequestError: the grammar does not compile.
        """
        return self._recent(grammar)

    def matcher(self, grammar: Grammar) -> "Matcher":
        """Matcher at the beginning of an answer.

        Raises:
          RequestError: the grammar does not compile.
        """
        return Matcher(self.compiled(grammar).start.deep_copy(), self._tokenizer, self._vocab)

    def _held_or_compiled(self, grammar: Grammar) -> CompiledGrammar:
        compiled = self._held.get(grammar)
        if compiled is None:
            compiled = self._held[grammar] = CompiledGrammar(self._compile(grammar))
        return compiled

    def _compile(self, grammar: Grammar) -> LLMatcher:
        try:
            text = (
                _unforced(grammar) if any(special in grammar.text for special in self._special) else _COMPILERS[grammar.kind](grammar.text)
            )
            matcher = on_deep_stack(lambda: LLMatcher(self._tokenizer, text, log_level=0), len(text))
        except ValueError as error:
            raise _does_not_compile(grammar, str(error)) from error
        fault = matcher.get_error() or _first_fault(matcher.deep_copy(), self._tokenizer)
        if fault:
            raise _does_not_compile(grammar, fault)
        return matcher


def _first_fault(matcher: LLMatcher, tokenizer: LLTokenizer) -> str:
    """Why no answer gets as far as a few tokens, by those that come first in the vocabulary; empty where one does."""
    bits = np.empty(-(-tokenizer.vocab_size // 32), np.uint32)
    for _ in range(_TRIED_TOKENS):
        matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if matcher.is_error() or matcher.is_stopped() or matcher.is_accepting():
            break
        matcher.consume_token(int(np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))[0]))
    return _NO_WAY if matcher.is_error() else ""


class Matcher:
    """State of one answer in its grammar."""

    def __init__(self, matcher: LLMatcher, tokenizer: LLTokenizer, vocab: int):
        self._matcher, self._vocab = matcher, vocab
        self._words = -(-tokenizer.vocab_size // 32)
        self._end = np.zeros(self._words, np.uint32)
        for token in tokenizer.eos_tokens:
            self._end[token // 32] |= np.uint32(1 << token % 32)

    @property
    def is_complete(self) -> bool:
        """The answer may end here."""
        return self._matcher.is_accepting() and not self._matcher.is_error()

    def bits(self) -> Bits:
        """[ceil(V / 32)] uint32 or fewer: bit v % 32 of word v // 32 says that token v may come next.

        Where all is said only an end may, and nothing where there is none, or where the grammar has become too large to go on with.
        """
        return self._of_model(self._bits())

    def _bits(self) -> Bits:
        if self._matcher.is_error():
            return np.zeros(self._words, np.uint32)
        if self._matcher.is_stopped():
            return self._end
        mask = np.empty(self._words, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            _log.warning("an answer ends early: %s", self._matcher.get_error())
            return np.zeros(self._words, np.uint32)
        return mask

    def _of_model(self, bits: Bits) -> Bits:
        """The mask without tokens that the tokenizer has and the model does not."""
        words, last = divmod(self._vocab, 32)
        if len(bits) <= words:
            return bits
        bits = bits[: words + bool(last)].copy()
        if last:
            bits[words] &= np.uint32((1 << last) - 1)
        return bits

    def copy(self) -> "Matcher":
        """The same state, which goes on by itself."""
        copied = copy.copy(self)
        copied._matcher = self._matcher.deep_copy()
        return copied

    def take(self, token: int) -> None:
        """The answer's next token."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)


def _tokenizer_of(text: str, vocab: int, eos_ids: Sequence[int]) -> LLTokenizer:
    """The tokenizer as llguidance knows it, with an end beyond all tokens where there is none: it would take another for one.

    Raises:
      ValueError: it cannot be read.
    """
    if eos_ids:
        with contextlib.suppress(ValueError):  # it has more tokens than the model, or lacks one that ends
            return LLTokenizer(text, n_vocab=vocab, eos_token=list(eos_ids))
    size = LLTokenizer(text).vocab_size
    ends = [token for token in eos_ids if token < max(vocab, size)] or [max(vocab, size)]
    return LLTokenizer(_with_tokens(text, range(size, max(ends) + 1)), eos_token=ends)


def _with_tokens(text: str, tokens: Iterable[int]) -> str:
    """A tokenizer.json with special tokens more, which follow upon its own."""
    tokenizer = json.loads(text)
    marks = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    added = [{"id": token, "content": f"<|end of a grammar {token}|>", **marks} for token in tokens]
    tokenizer["added_tokens"] = [*(tokenizer.get("added_tokens") or ()), *added]
    return json.dumps(tokenizer)


def _special_texts(tokenizer: str) -> tuple[str, ...]:
    """Texts of the special tokens, as they are and as they may stand in JSON."""
    added = json.loads(tokenizer).get("added_tokens") or ()
    texts = [token["content"] for token in added if token.get("special") and token["content"]]
    return tuple(dict.fromkeys([*texts, *(json.dumps(text)[1:-1] for text in texts)]))


def _unforced(grammar: Grammar) -> str:
    """The grammar, where the text of a special token may have to be written: whatever must follow is not tokenized ahead.

    Ahead, it would become that token, which no grammar allows.
    """
    text = grammar.text
    if grammar.kind is GrammarKind.JSON_SCHEMA:
        schema = json.loads(text)
        text = "start: %json " + json.dumps({**schema, "x-guidance": {"whitespace_flexible": False, **schema.get("x-guidance", {})}})
    elif grammar.kind is GrammarKind.REGEX:
        text = json.loads(LLMatcher.grammar_from_regex(text))["grammars"][0]["lark_grammar"]
    return LLMatcher.grammar_from_lark(f'%llguidance {{"no_forcing": true}}\n{text}')


def _does_not_compile(grammar: Grammar, fault: str) -> RequestError:
    return RequestError(f"the {grammar.kind} does not compile: {' '.join(fault.split())[:300]}", param="structured_outputs")


def _json_schema(text: str) -> str:
    """Without free white space, unless the schema itself asks for it: small models fill their answers up to the last token with it."""
    return LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": False})


_COMPILERS = {
    GrammarKind.JSON_SCHEMA: _json_schema,
    GrammarKind.REGEX: LLMatcher.grammar_from_regex,
    GrammarKind.LARK: LLMatcher.grammar_from_lark,
}
