"""Training on a small scale: it learns, it can be interrupted, and it reads prompts as the server does."""

import dataclasses
from pathlib import Path
from random import Random

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from muxjax.demo.errands import errands, function
from muxjax.demo.items import conversation
from muxjax.demo.make import make_models
from muxjax.demo.recipes import RECIPES
from muxjax.demo.tales import Split, tales
from muxjax.demo.tokenizer import BOT, EOS, chat_template, save_tokenizer, specials, train_tokenizer
from muxjax.demo.train import Batch, batch, fit, learning_rate, loss
from muxjax.errors import ConfigError, RequestError
from muxjax.models import decoder
from muxjax.server.text.template_files import load_template

TINY = dataclasses.replace(
    RECIPES["sea"],
    rows=4,
    steps=12,
    spec=dataclasses.replace(RECIPES["sea"].spec, width=32, layers=1, windows=(None,), heads=2, kv_heads=1, head_dim=16, ffn=32),
)
MESSAGES = conversation("One day Kai went to the reef.", [("Who went?", "Kai went."), ("Where did Kai go?", "Kai went to the reef.")])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TINY.world, TINY.spec.vocab, TINY.seed)


@given(st.sampled_from(list(RECIPES.values())), st.integers(0, 2**32))
def test_a_conversation_fits_into_the_context(tokenizers, recipe, seed):
    rng = Random(seed)
    tale = next(tales(recipe.world, rng, Split.TRAIN))
    messages = conversation(tale.text, tale.questions[:5])
    told = [chat_template().render(messages, answer=False)]
    if recipe.world.calls_tools:
        errand = next(errands(recipe.world, rng, Split.TRAIN))
        told.append(chat_template().render(errand.messages, answer=False, tools=errand.tools))
    for text in told:
        assert 3 * len(messages) < len(tokenizers[recipe.world.name].encode(text).ids) <= recipe.context, "nor is it nearly nothing"


@pytest.fixture(scope="module")
def tokenizers():
    return {name: train_tokenizer(recipe.world, recipe.spec.vocab, recipe.seed) for name, recipe in RECIPES.items()}


def test_a_tokenizer_is_of_the_models_size_and_gives_text_back(tokenizers):
    for name, tokenizer in tokenizers.items():
        assert 480 <= tokenizer.get_vocab_size() <= RECIPES[name].spec.vocab
        first = specials(RECIPES[name].world)
        assert tuple(tokenizer.id_to_token(index) for index in range(len(first))) == first
        assert tokenizer.decode(tokenizer.encode("Zoë said: 42 ducks!").ids) == "Zoë said: 42 ducks!"
        assert "42" not in tokenizer.encode("42").tokens, "digits stay apart"


def test_the_saved_template_is_the_one_trained_with(tokenizer, tmp_path: Path):
    save_tokenizer(tokenizer, tmp_path, max_len=128)
    served = load_template(tmp_path)
    assert served is not None
    for answer in (True, False):
        assert served.render(MESSAGES, answer=answer) == chat_template().render(MESSAGES, answer=answer)
    assert served.render(MESSAGES[:1]) == "<s><|user|>One day Kai went to the reef. Who went?<|bot|>"


def test_a_prompt_is_the_beginning_of_its_training_text():
    whole, prompt = chat_template().render(MESSAGES, answer=False), chat_template().render(MESSAGES[:-1])
    assert whole == prompt + MESSAGES[-1]["content"] + EOS


def test_a_prompt_shows_system_tools_calls_and_results():
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"thing": "net"}'}}
    messages = [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": "Where is the net?"},
        {"role": "assistant", "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "bay"},
    ]
    shown = '<tool_call>\n{"name": "find", "arguments": {"thing": "net"}}\n</tool_call>'
    text = chat_template().render(messages, tools=[function("find", "thing"), {"type": "function", "function": {"name": "now"}}])
    assert text == (
        f"<s><|system|>You help.<|tools|>find(thing) now()<|user|>Where is the net?<|bot|>{shown}\n{shown}</s><|tool|>bay<|bot|>"
    )
    assert chat_template().shows_tools


def test_an_unknown_role_is_refused():
    with pytest.raises(RequestError, match="only the roles system"):
        chat_template().render([{"role": "critic", "content": "Be brief."}])


def test_only_answers_and_their_ends_are_learned(tokenizer):
    tokens, weights = batch(TINY, tokenizer, step=0)
    for row_tokens, row_weights in zip(tokens, weights, strict=True):
        learned = [int(after) for after, weight in zip(row_tokens[1:], row_weights[:-1], strict=True) if weight]
        text = tokenizer.decode(list(map(int, row_tokens)), skip_special_tokens=False)
        answers = [part.split(EOS)[0] + EOS for part in text.split(BOT)[1:]]
        assert tokenizer.decode(learned, skip_special_tokens=False) == "".join(answers)


def test_the_loss_sees_a_wrong_answer_and_no_wrong_question(tokenizer):
    spec = dataclasses.replace(TINY.spec, dtype="float32")
    params = decoder.init_params(spec, jax.random.key(0))
    tokens, weights = batch(TINY, tokenizer, step=0)
    tail = tokens.copy()
    tail[:, -1] = 7  # behind everything that is learned
    answer = tokens.copy()
    answer[0, int(weights[0].argmax()) + 1] ^= 1
    usual, unlearned, wrong = (float(loss(spec, params, Batch(given, weights))) for given in (tokens, tail, answer))
    assert usual == unlearned
    assert usual != wrong


def test_training_learns(tokenizer, tmp_path: Path):
    spec = dataclasses.replace(TINY.spec, dtype="float32")
    before = decoder.init_params(spec, jax.random.key(TINY.seed))
    after = fit(TINY, tokenizer, tmp_path)
    unseen = batch(TINY, tokenizer, step=10**6)
    assert loss(spec, after, unseen) < loss(spec, before, unseen) - 0.5


def test_an_interrupted_training_ends_as_an_undisturbed_one(tokenizer, tmp_path: Path):
    whole = fit(TINY, tokenizer, tmp_path / "whole", steps_a_save=4)
    with pytest.raises(KeyboardInterrupt):
        fit(TINY, InterruptedTokenizer(tokenizer, after=6), tmp_path / "parts", steps_a_save=4)  # pyright: ignore
    left = InterruptedTokenizer(tokenizer, after=TINY.steps - 4)
    resumed = fit(TINY, left, tmp_path / "parts", steps_a_save=4)  # pyright: ignore
    assert left.batches == TINY.steps - 4, "it went on from the save at step 4"
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def test_a_time_limit_ends_training_early(tokenizer, tmp_path: Path):
    endless = dataclasses.replace(TINY, steps=10**9)
    assert fit(endless, tokenizer, tmp_path, limit_s=0.5)


def test_the_learning_rate_rises_and_falls_to_nothing():
    assert learning_rate(TINY, 0) == 0
    assert learning_rate(TINY, TINY.warmup) == TINY.peak
    assert learning_rate(TINY, 1) == pytest.approx(0)
    assert 0 < learning_rate(TINY, 0.9) < learning_rate(TINY, 0.5) < TINY.peak


def test_a_model_without_a_recipe_or_a_used_folder_is_refused_before_training(tmp_path: Path):
    with pytest.raises(ConfigError, match="farm, forest, sea, got 'cat'"):
        make_models(["cat"], tmp_path, None)
    (tmp_path / "sea").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        make_models(["sea"], tmp_path, None)


class InterruptedTokenizer:
    """A tokenizer for so many batches; the next one finds Ctrl-C pressed."""

    def __init__(self, tokenizer: Tokenizer, after: int):
        self.token_to_id = tokenizer.token_to_id
        self._tokenizer, self._after, self.batches = tokenizer, after, 0

    def encode_batch(self, texts: list[str], add_special_tokens: bool):
        if self.batches == self._after:
            raise KeyboardInterrupt
        self.batches += 1
        return self._tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
