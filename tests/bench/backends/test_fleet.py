"""A fleet: what each model has of it where it has a part of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.bench.backends.fleet import OVERHEAD_BYTES, Fleet, shares
from muxjax.errors import ConfigError
from tests.bench.backends.kit import GIB, fleet, member

WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.floats(0, 1e30), st.floats(0, 1)), min_size=1)


def test_a_models_own_cache_is_its_share_in_bytes_and_tokens():
    one = member(cache_share=0.25, token_bytes=2**17)
    of = fleet(one, member("b", cache_share=0.75))
    assert of.own_cache_bytes(one) == 2 * GIB
    assert of.own_cache_tokens(one) == 2**14


def test_a_models_memory_is_weights_cache_and_what_a_process_needs_beside():
    one = member()
    assert fleet(one).memory_fraction(one) == pytest.approx((2 * GIB + 2 * GIB + OVERHEAD_BYTES) / (80 * GIB))
    assert fleet(one, device_bytes=0).memory_fraction(one) == 1.0


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"members": ()}, "models must be at least one"),
        ({"members": (member(), member(compute_share=0.0))}, "named once each"),
        ({"members": (member("a=b"),)}, "named without a ="),
        ({"members": (member(cache_share=0.6), member("b", cache_share=0.6))}, "cache_share must be over 0, to 1"),
        ({"dtype": "int8"}, "dtype must be one of bfloat16"),
        ({"cache_bytes": 79 * GIB}, "at most the 80 GiB of the device"),
    ],
)
def test_what_cannot_be_served_is_refused(changed, said):
    with pytest.raises(ConfigError, match=said):
        Fleet(**({"members": (member(),), "cache_bytes": GIB, "device_bytes": 80 * GIB} | changed))


def test_shares_are_in_proportion_above_their_floors():
    assert shares({"a": 3, "b": 1}, {"a": 0, "b": 0}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 1, "b": 0}, {"a": 0.25, "b": 0.25}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 0, "b": 0}, {"a": 0, "b": 0}) == {"a": 0.5, "b": 0.5}


@given(WEIGHTS)
def test_shares_sum_to_1_and_none_is_below_its_floor(drawn):
    total = sum(floor for _, floor in drawn.values()) or 1.0
    floors = {name: min(floor, floor / total) for name, (_, floor) in drawn.items()}
    found = shares({name: want for name, (want, _) in drawn.items()}, floors)
    assert sum(found.values()) == pytest.approx(1)
    assert all(found[name] >= floors[name] - 1e-9 for name in found)


def test_a_record_says_what_was_the_same_for_all():
    assert fleet(member("a"), member("b")).written == {
        "weight_bytes": {"a": 2 * GIB, "b": 2 * GIB},
        "cache_bytes": 8 * GIB,
        "dummy": False,
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "max_num_seqs": 256,
    }


def test_a_record_says_what_is_held_in_fewer_bits():
    narrow = fleet(quantization="fp8", kv_cache_dtype="fp8").written
    assert narrow == fleet().written | {"quantization": "fp8", "kv_cache_dtype": "fp8"}
