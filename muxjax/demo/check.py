"""How many questions a model answers right, computed without cache, engine or server."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from muxjax.demo.items import Item, is_right
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.models.attention import DenseMemory
from muxjax.models.layers import Products, prompt_product
from muxjax.models.weights import load
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.template_files import load_template
from muxjax.specs.config import read_spec

MOST_TOKENS = 72
"""Longer than any right answer."""


def wrong_answers(folder: Path, items: Sequence[Item]) -> list[tuple[Item, str]]:
    """The items that the model in the folder answers wrong, each with what it says instead."""
    said = answers(folder, items)
    return [(item, answer) for item, answer in zip(items, said, strict=True) if not is_right(item, answer)]


def answers(folder: Path, items: Sequence[Item]) -> list[str]:
    """Answers of the model to each item, greedily."""
    spec = read_spec(folder)
    params = load(folder, spec, progress=False)
    tokenizer, template = _text_of(folder)
    prompts = [tokenizer.encode(template.render(item.messages, tools=item.tools or None), add_special_tokens=False).ids for item in items]
    return tokenizer.decode_batch(_greedy(spec, params, prompts))


def perplexity(folder: Path, items: Sequence[Item], *, quantization: str | None = None) -> float:
    """Of the right answers' tokens after their questions, as the model sees them; it is 1 for a model that is certain of all.

    Args:
      quantization: as of `read_spec`.
    """
    spec = read_spec(folder, quantization=quantization)
    params, tokenizer, template = load(folder, spec, progress=False), *_text_of(folder)
    losses = []
    for item in items:
        prompt = template.render(item.messages, tools=item.tools or None)
        begin, tokens = (tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, prompt + item.answer))
        losses.append(_losses(spec, params, np.array(tokens))[len(begin) - 1 :])
    return float(np.exp(np.concatenate(losses).mean()))


def _text_of(folder: Path) -> tuple[Tokenizer, ChatTemplate]:
    template = load_template(folder)
    assert template is not None, "a demo model has a chat template"
    return Tokenizer.from_file(str(folder / "tokenizer.json")), template


def _losses(spec: ModelSpec, params: decoder.Params, tokens_T: np.ndarray) -> np.ndarray:
    """[T - 1], of each token but the first after those before it, computed as a prompt is; padded, so that few shapes are compiled."""
    padded_S, products = np.pad(tokens_T, (0, -len(tokens_T) % MOST_TOKENS)), Products(prompt_product(spec))
    hidden_SM, _ = decoder.forward(spec, params, jnp.asarray(padded_S), jnp.arange(padded_S.size), DenseMemory(), products=products)
    logs_SV = jax.nn.log_softmax(decoder.logits(spec, params, hidden_SM))
    return -np.asarray(logs_SV)[np.arange(len(tokens_T) - 1), tokens_T[1:]]


def _greedy(spec: ModelSpec, params: decoder.Params, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The tokens after each prompt up to the end of the answer, the whole context computed anew for every token."""
    ends = np.array([len(prompt) for prompt in prompts])
    begins, rows = ends.copy(), np.arange(len(prompts))
    tokens_BS = np.zeros((len(prompts), ends.max() + MOST_TOKENS), np.int32)
    for row, prompt in zip(tokens_BS, prompts, strict=True):
        row[: len(prompt)] = prompt
    speaking = np.full(len(prompts), True)
    while speaking.any() and (ends - begins).max() < MOST_TOKENS:
        tokens_BS[rows, ends] = _next_tokens(spec, params, tokens_BS, ends)
        speaking &= ~np.isin(tokens_BS[rows, ends], spec.eos_ids)
        ends += speaking
    return [row[begin:end].tolist() for row, begin, end in zip(tokens_BS, begins, ends, strict=True)]


def _next_tokens(spec: ModelSpec, params: decoder.Params, tokens_BS: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The most likely token at each row's end, [B]."""

    def hidden_M(tokens_S: jax.Array, end: jax.Array) -> jax.Array:
        hidden_SM, _ = decoder.forward(spec, params, tokens_S, jnp.arange(tokens_S.size), DenseMemory())
        return hidden_SM[end - 1]

    hidden_BM = jax.vmap(hidden_M)(jnp.asarray(tokens_BS), jnp.asarray(ends))
    return np.asarray(decoder.logits(spec, params, hidden_BM).argmax(axis=-1))
