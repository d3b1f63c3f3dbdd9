"""`muxjax demo --train`: makes the demo models from nothing and exports each as a standard Hugging Face folder."""

import contextlib
import json
import math
import shutil
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp

from muxjax.demo.check import wrong_answers
from muxjax.demo.items import items, items_by_heart, items_with_tools
from muxjax.demo.recipes import RECIPES, Recipe
from muxjax.demo.tokenizer import save_tokenizer, train_tokenizer
from muxjax.demo.train import fit
from muxjax.errors import ConfigError
from muxjax.models import orbax_io
from muxjax.models.checkpoint import HeldWeights
from muxjax.models.convert import convert
from muxjax.specs.config import to_hf_config

HELD_OUT_SEED = 2026
"""Seed of the questions that a new model is asked; any seed will do, as no seed can reach what training showed."""
ASKED = 200
"""Such questions."""


def make_models(names: list[str], out: Path, minutes: float | None) -> None:
    """Trains, exports and questions the named models one after another, into `out`/NAME.

    Training is saved now and then below `out`/.training, from where an interrupted run goes on.

    Args:
      minutes: for all of them together; None for the steps of their recipes.
    Raises:
      ConfigError: a name without a recipe, a folder that is in use, or no time.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"minutes must be over 0 and finite, got {minutes}", field="minutes")
    for name in names:
        if name not in RECIPES:
            raise ConfigError(f"model must be one of {', '.join(RECIPES)}, got {name!r}", field="model")
        if (out / name).exists():
            raise ConfigError(f"{out / name} exists already: remove it, or choose another --out", field="out")
    for name in names:
        make_model(RECIPES[name], out, math.inf if minutes is None else 60 * minutes / len(names))
        print(f"{out / name}: {report(RECIPES[name], out / name)}")
    with contextlib.suppress(OSError):  # another run may be at work in it
        (out / ".training").rmdir()


def make_model(recipe: Recipe, out: Path, limit_s: float) -> None:
    """Trains one model, saves it through Orbax below `out`/.training and exports that to `out`/NAME."""
    work, name = out / ".training" / recipe.world.name, recipe.world.name
    tokenizer = train_tokenizer(recipe.world, recipe.spec.vocab, recipe.seed)
    params = fit(recipe, tokenizer, work / "state", limit_s)
    checkpoint = work / "checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir()
    params = jax.tree.map(lambda array: array.astype(jnp.dtype(recipe.spec.dtype)), params)
    orbax_io.save(checkpoint, HeldWeights(params, recipe.spec), recipe.spec, lambda _: None)
    _write_json(checkpoint / "config.json", to_hf_config(recipe.spec) | {"bos_token_id": 0})
    _write_json(checkpoint / "generation_config.json", {"temperature": 0.0, "do_sample": False, "bos_token_id": 0, "eos_token_id": 1})
    save_tokenizer(tokenizer, checkpoint, recipe.spec.max_len)
    convert(checkpoint, out / name, progress=False)
    shutil.rmtree(work)


def report(recipe: Recipe, folder: Path) -> str:
    """How many held-out questions, of those known by heart, and of those with tools the model answers right."""
    world, shares = recipe.world, []
    kinds = {"new": list(islice(items(world, HELD_OUT_SEED), ASKED)), "by heart": items_by_heart(world)}
    if world.calls_tools:
        kinds["with tools"] = list(islice(items_with_tools(world, HELD_OUT_SEED), ASKED))
    for label, questions in kinds.items():
        right = len(questions) - len(wrong_answers(folder, questions))
        shares.append(f"{right} of {len(questions)} questions {label}")
    return ", ".join(shares) + " answered right"


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
