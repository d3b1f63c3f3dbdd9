"""Tokens behind drafts are distributed as those that are drawn one by one: two of a chain, over many seeds."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.engine.speculation.drafts import Drafts
from muxjax.types import Ints
from tests.device.test_sampling import draw, rows

V, MANY = 5, 8192
CHAIN = np.log(np.random.default_rng(3).dirichlet(np.ones(V), V)).astype(np.float32)
"""[V, V] logits behind each token."""
FIRST, DRAFT = 2, 1


def drawn(after: Ints, position: int, *, seed: int = 0) -> Ints:
    """A token behind each of those, by the seed of its row and the position alone."""
    return np.asarray(draw(jnp.asarray(CHAIN[after]), rows(MANY, seed=seed), jnp.full(MANY, position, jnp.int32)))


def two_tokens(rule: Callable[[Ints, Ints], tuple[Ints, Ints]]) -> float:
    """Chi-square, over its degrees of freedom, of the pairs of tokens that a rule makes of what a step with a draft each has sampled."""
    first = drawn(np.full(MANY, FIRST), 1)
    behind = drawn(np.full(MANY, DRAFT), 2)
    pairs = np.ravel_multi_index(rule(first, behind), (V, V))
    expected = MANY * np.exp(CHAIN[FIRST][:, None] + CHAIN).ravel()
    return float(((np.bincount(pairs, minlength=V * V) - expected) ** 2 / expected).sum() / (V * V - 1))


def ours(first: Ints, behind: Ints) -> tuple[Ints, Ints]:
    drafts = Drafts.of([np.array([DRAFT], np.int32)] * MANY)
    assert drafts is not None
    return first, np.where(drafts.right(np.concatenate([first, behind])), behind, drawn(first, 2))


def always_right(first: Ints, behind: Ints) -> tuple[Ints, Ints]:
    return np.full_like(first, DRAFT), behind


def behind_whatever_it_was(first: Ints, behind: Ints) -> tuple[Ints, Ints]:
    return first, behind


def drawn_again_where_wrong(first: Ints, behind: Ints) -> tuple[Ints, Ints]:
    again = np.where(first == DRAFT, first, drawn(np.full(MANY, FIRST), 1, seed=MANY))
    return again, drawn(again, 2, seed=MANY)


def test_our_rule_makes_the_distribution():
    assert two_tokens(ours) < 1.9  # 24 degrees of freedom: one in 200 would have more


@pytest.mark.parametrize("rule", [always_right, behind_whatever_it_was, drawn_again_where_wrong])
def test_a_wrong_rule_makes_another(rule):
    assert two_tokens(rule) > 5
