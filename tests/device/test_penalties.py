"""Logits processed on the device, against loops over numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.device.batch import BEYOND, mask_words
from muxjax.device.penalties import MADE, MOST, PROMPT, count_tokens, likeliest, process_logits
from muxjax.device.sampling import Rows, sample
from muxjax.engine.executor import NO_TOKEN, NOTHING_LEFT
from muxjax.engine.step_controls import NEUTRAL

V, B = 70, 5
process = jax.jit(process_logits)


def inputs(seed: int) -> dict[str, np.ndarray]:
    """Of five rows, the first of which asks for nothing."""
    random = np.random.default_rng(seed)
    penalties = np.stack([random.uniform(-2, 2, B), random.uniform(-2, 2, B), random.uniform(0.5, 2, B)], axis=1)
    bits = random.integers(0, 2**32, (B, mask_words(V)), np.uint32) | random.integers(0, 2**32, (B, mask_words(V)), np.uint32)
    edits = np.full((16, 3), BEYOND, np.int32)
    edits[:9, 0], edits[:9, 1] = random.integers(1, B, 9), random.choice(V, 9, replace=False)
    edits[:9, 2] = np.where(np.arange(9) < 3, -np.inf, random.uniform(-5, 5, 9)).astype(np.float32).view(np.int32)
    penalties[0], bits[0] = NEUTRAL, 2**32 - 1
    return {
        "logits_BV": (4 * random.standard_normal((B, V))).astype(np.float32),
        "counts_BV": random.choice([0, PROMPT, MADE, PROMPT + MADE, 5 * MADE], (B, V)).astype(np.int16),
        "penalties_B3": penalties.astype(np.float32),
        "edits_U3": edits,
        "bits_BW": bits,
    }


def expected(given: dict[str, np.ndarray]) -> np.ndarray:
    """As `types.Sampling` says it, number by number."""
    out = np.empty((B, V))
    for row in range(B):
        presence, frequency, repetition = given["penalties_B3"][row].astype(float)
        for token in range(V):
            value, count = float(given["logits_BV"][row, token]), int(given["counts_BV"][row, token])
            if count:
                value = value / repetition if value > 0 else value * repetition
            made = count // MADE
            value -= frequency * made + (presence if made else 0)
            for other_row, other, add in given["edits_U3"]:
                if (other_row, other) == (row, token):
                    value += float(np.int32(add).view(np.float32))
            allowed = given["bits_BW"][row, token // 32] >> (token % 32) & 1
            out[row, token] = value if allowed else -np.inf
    return out


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_logits_are_shaped_as_the_numbers_say_and_a_row_that_asks_for_nothing_keeps_every_bit(seed):
    asked = inputs(seed)
    found = np.asarray(process(**asked))
    np.testing.assert_allclose(found, expected(asked), rtol=1e-4, atol=1e-4)
    assert (found[0] == asked["logits_BV"][0]).all()


def test_each_part_one_place_off_is_noticed():
    asked = inputs(1)
    right = expected(asked)
    for name in ("counts_BV", "penalties_B3", "bits_BW"):
        wrong = np.asarray(process(**(asked | {name: np.roll(asked[name], 1, axis=1)})))
        assert not np.allclose(wrong, right, atol=1e-2), name
    later = asked["edits_U3"] + np.where(asked["edits_U3"][:, :1] < B, [[0, 1, 0]], 0).astype(np.int32)
    assert not np.allclose(np.asarray(process(**(asked | {"edits_U3": later}))), right, atol=1e-2)


def test_a_row_that_forbids_all_has_nothing_left_and_its_neighbours_have_what_they_had():
    asked, tokens = inputs(2), jnp.zeros(B, jnp.int32)
    before = likeliest(process(**asked), tokens)
    asked["bits_BW"][3] = 0
    found = process(**asked)
    assert (np.asarray(found[3]) == -np.inf).all()
    assert likeliest(found, tokens).tolist() == [NOTHING_LEFT if i == 3 else token for i, token in enumerate(before.tolist())]


def test_a_row_with_nothing_left_is_not_drawn_and_not_counted():
    logits, counts = jnp.full((2, V), -jnp.inf).at[1, 4].set(1.0), jnp.zeros((2, V), jnp.int16)
    tokens = likeliest(logits, jnp.zeros(2, jnp.int32))
    ones = jnp.ones(2)
    rows = Rows(temperature=ones, top_k=jnp.zeros(2, jnp.int32), top_p=ones, min_p=0 * ones, key_B2=jnp.zeros((2, 2), jnp.uint32))
    assert sample(logits, tokens, rows, jnp.arange(2)).tolist() == [NOTHING_LEFT, 4]
    assert np.argwhere(count_tokens(counts, jnp.arange(2), tokens)).tolist() == [[1, 4]]


def test_a_row_without_a_token_gets_none():
    """Its logits were no numbers, which is to be told."""
    logits = jnp.asarray(inputs(3)["logits_BV"])
    tokens = jnp.array([0, NO_TOKEN, 0, 0, 0], jnp.int32)
    assert likeliest(logits, tokens).tolist() == [NO_TOKEN if i == 1 else logits[i].argmax() for i in range(B)]


def test_a_count_grows_by_its_token_alone_and_stops_before_it_turns_over():
    counts = np.zeros((3, V), np.int16)
    counts[0, 5], counts[1, 7] = PROMPT, MOST + PROMPT
    found = np.asarray(count_tokens(jnp.asarray(counts), jnp.array([0, 1, BEYOND]), jnp.array([5, 7, 9])))
    counts[0, 5] += MADE
    assert (found == counts).all() and found.dtype == np.int16
