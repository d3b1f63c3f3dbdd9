"""The shipped models: complete, small, and of three different shapes."""

import json
import math

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from muxjax.demo.check import MOST_TOKENS, wrong_answers
from muxjax.demo.items import Item, items_by_heart
from muxjax.demo.recipes import RECIPES
from muxjax.demo.run import SHIPPED, shipped
from muxjax.demo.tokenizer import CHAT_TEMPLATE, train_tokenizer
from muxjax.server.sampling_defaults import load_defaults
from muxjax.specs.config import read_spec

FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
folders = pytest.mark.parametrize("folder", shipped(), ids=lambda folder: folder.name)


@folders
def test_a_folder_is_a_whole_checkpoint(folder):
    assert {file.name for file in folder.iterdir()} == FILES
    assert read_spec(folder) == RECIPES[folder.name].spec
    with safe_open(folder / "model.safetensors", "np") as weights:
        assert sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()) == RECIPES[folder.name].spec.params  # noqa: SIM118


@folders
def test_a_folder_has_the_template_of_its_training_and_answers_greedily(folder):
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE
    assert load_defaults(folder, "a").temperature == 0
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    answers = [item.answer for item in items_by_heart(RECIPES[folder.name].world)]
    assert max(len(encoding.ids) for encoding in tokenizer.encode_batch(answers)) < MOST_TOKENS


@folders
def test_a_tokenizer_is_the_one_its_recipe_makes(folder):
    recipe = RECIPES[folder.name]
    shipped_text = (folder / "tokenizer.json").read_text()
    assert json.loads(shipped_text) == json.loads(train_tokenizer(recipe.world, recipe.spec.vocab, recipe.seed).to_str())
    assert json.loads(shipped_text) != json.loads(train_tokenizer(recipe.world, recipe.spec.vocab - 1, recipe.seed).to_str())


def test_all_of_them_are_small():
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 5e6
    assert all(300_000 <= recipe.spec.params <= 600_000 for recipe in RECIPES.values())


def test_they_have_different_shapes():
    specs = [recipe.spec for recipe in RECIPES.values()]
    assert len({spec.head_dim for spec in specs}) == len({(spec.layers, spec.heads, spec.kv_heads) for spec in specs}) == 3


@folders
def test_a_model_knows_itself_and_the_checker_sees_that_it_is_no_other(folder):
    questions = items_by_heart(RECIPES[folder.name].world)[:4]
    assert wrong_answers(folder, questions) == []
    changed = [Item(kind=item.kind, messages=item.messages, answer=item.answer + " Not.") for item in questions]
    assert [item for item, _ in wrong_answers(folder, changed)] == changed
