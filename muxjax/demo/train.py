"""Training of one demo model on endless tales: the real decoder, AdamW, nothing to download."""

import dataclasses
import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from tokenizers import Tokenizer
from tqdm import tqdm

from muxjax.demo.errands import KEYS, NAMES, Errand, errands, offered, system, unknown
from muxjax.demo.items import conversation
from muxjax.demo.recipes import Recipe
from muxjax.demo.tales import Split, Tale, tales
from muxjax.demo.tokenizer import BOT, EOS, chat_template
from muxjax.demo.worlds import World
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.models.attention import DenseMemory

QUESTIONS = 5
"""Most questions asked of a tale in one conversation."""
FEW_QUESTIONS = 3
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


class Batch(NamedTuple):
    """Conversations, [B, T]; `weights` is 1 where the next token belongs to an answer, else 0."""

    tokens: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array


class State(NamedTuple):
    """Training between two steps; `progress` is the share of all steps done, or of the allowed time if that is more."""

    params: decoder.Params
    moments: optax.OptState
    step: int
    progress: float


def fit(recipe: Recipe, tokenizer: Tokenizer, folder: Path, limit_s: float = math.inf, steps_a_save: int = 200) -> decoder.Params:
    """Float32 parameters after all steps, or after `limit_s` seconds with the learning rate's fall made as fast.

    Args:
      folder: of the saved state, from which an interrupted run goes on.
    """
    kept, handler = ocp.CheckpointManagerOptions(max_to_keep=1), ocp.StandardCheckpointHandler()
    with ocp.CheckpointManager(folder.resolve(), options=kept, item_handlers=handler) as manager:
        state = _restored(manager, _first_state(recipe))
        with tqdm(total=100, initial=100 * state.progress, desc=recipe.world.name, bar_format=_BAR) as bar:
            while state.progress < 1 - 1e-9:  # the shares of all steps do not add up to 1 exactly
                state, loss = _timed_step(recipe, tokenizer, state, limit_s)
                bar.update(min(100 * state.progress, 100) - bar.n)  # a busy machine runs over the limit
                bar.set_postfix_str(f"step {state.step}, loss {loss:.4f}", refresh=False)
                if state.step % steps_a_save == 0:
                    manager.save(state.step, args=ocp.args.StandardSave(state._asdict()))
    return state.params


def batch(recipe: Recipe, tokenizer: Tokenizer, step: int) -> Batch:
    """The batch of a step: a function of the recipe's seed and the step alone."""
    rng = Random(f"{recipe.seed}/{step}")
    texts = list(islice(_conversations(recipe.world, rng), recipe.rows))
    bot, eos = tokenizer.token_to_id(BOT), tokenizer.token_to_id(EOS)
    tokens = np.full((recipe.rows, recipe.context), eos, np.int32)
    for row, encoding in zip(tokens, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        row[: len(encoding.ids)] = encoding.ids
    opened, closed = np.cumsum(tokens == bot, axis=1), np.cumsum(tokens == eos, axis=1)
    return Batch(tokens, (opened > closed).astype(np.float32))


def _conversations(world: World, rng: Random) -> Iterator[str]:
    """Endless conversations as the template writes them; of a model that calls tools a third are errands."""
    template = chat_template()
    told, sent = tales(world, rng, Split.TRAIN), errands(world, rng, Split.TRAIN)
    while True:
        kind = rng.random() if world.calls_tools else 1.0
        if kind < 0.35:
            errand = next(sent)
        elif kind < 0.4:
            errand = unknown(world, rng, Split.TRAIN)
        else:
            errand = _told(next(told), rng, needless_tools=kind < 0.55)
        yield template.render(errand.messages, answer=False, tools=errand.tools or None)


def _told(tale: Tale, rng: Random, *, needless_tools: bool) -> Errand:
    """A tale and its questions, fewer of them where tools are offered that it does not need."""
    questions = rng.sample(tale.questions, min(QUESTIONS, len(tale.questions)))
    if not needless_tools:
        return Errand(messages=conversation(tale.text, questions), tools=())
    before, tools = system(rng), offered(rng, rng.choice(NAMES), rng.choice(KEYS))
    return Errand(messages=(*before, *conversation(tale.text, questions[:FEW_QUESTIONS])), tools=tools)


def loss(spec: ModelSpec, params: decoder.Params, batch: Batch) -> jax.Array:
    """Mean cross entropy of the answers' tokens, in nats; a question's words are chance, and teach nothing."""

    def logits_TV(tokens_T: jax.Array) -> jax.Array:
        hidden_TM, _ = decoder.forward(spec, params, tokens_T, jnp.arange(tokens_T.size), DenseMemory())
        return decoder.logits(spec, params, hidden_TM)

    logits_BTV = jax.vmap(logits_TV)(jnp.asarray(batch.tokens[:, :-1]))
    losses_BT = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, batch.tokens[:, 1:])
    weights_BT = batch.weights[:, :-1]
    return jnp.sum(losses_BT * weights_BT) / jnp.sum(weights_BT)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if progress < recipe.warmup:
        return recipe.peak * progress / recipe.warmup
    return recipe.peak * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW but for its learning rate, which follows progress and not the count of steps."""
    return optax.chain(optax.clip_by_global_norm(recipe.clip), optax.scale_by_adam(b2=recipe.b2), optax.add_decayed_weights(recipe.decay))


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _update(recipe: Recipe, params: decoder.Params, moments: optax.OptState, batch: Batch, rate: float):
    """One step of AdamW: parameters, moments, loss."""
    spec = dataclasses.replace(recipe.spec, dtype="float32")
    value, gradients = jax.value_and_grad(partial(loss, spec))(params, batch)
    updates, moments = _optimizer(recipe).update(gradients, moments, params)
    return jax.tree.map(lambda param, update: param - rate * update, params, updates), moments, value


def _timed_step(recipe: Recipe, tokenizer: Tokenizer, state: State, limit_s: float) -> tuple[State, float]:
    begin_s = time.monotonic()
    rate = learning_rate(recipe, state.progress)
    params, moments, loss = _update(recipe, state.params, state.moments, batch(recipe, tokenizer, state.step), rate)
    loss = float(loss)
    share = max(1 / recipe.steps, (time.monotonic() - begin_s) / limit_s)
    return State(params, moments, state.step + 1, state.progress + share), loss


def _first_state(recipe: Recipe) -> State:
    spec = dataclasses.replace(recipe.spec, dtype="float32")
    params = decoder.init_params(spec, jax.random.key(recipe.seed))
    return State(params, _optimizer(recipe).init(params), 0, 0.0)


def _restored(manager: ocp.CheckpointManager, first: State) -> State:
    """The last saved state, or the first."""
    step = manager.latest_step()
    return first if step is None else State(**manager.restore(step, args=ocp.args.StandardRestore(first._asdict())))
