from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, SpeculativeOptions, UnitOptions
from muxjax.engine.speculation.method import MOST_ROWS, Speculation
from muxjax.errors import ConfigError


def model(name: str) -> ModelOptions:
    return ModelOptions(name=name, path=Path("/none"))


def unit(names: str, **fields) -> UnitOptions:
    return UnitOptions(models=tuple(map(model, names)), **fields)


def test_there_are_never_more_lanes_than_models():
    three = unit("abc", lanes=3, sm_shares=(64,))
    assert three.without("b") == unit("ac", lanes=2, sm_shares=(64,))
    assert three.without("b").without("c") == unit("a", lanes=1)
    assert three.plus(model("d")) == unit("abcd", lanes=3, sm_shares=(64,))


def test_lanes_that_nobody_named_stay_so():
    assert unit("ab", sm_shares=(64,)).without("a") == unit("b")
    assert unit("a").plus(model("b")) == unit("ab")


def test_several_devices_have_one_lane():
    assert unit("ab", lanes=2, sm_shares=(64,)).serving([model("a"), model("b")], devices=2) == unit("ab", tensor_parallel_size=2)


def test_a_unit_has_a_model():
    with pytest.raises(ConfigError, match="models must be at least one"):
        unit("a").without("a")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "eagle"}, "method must be one of ngram, got 'eagle'"),
        ({"num_speculative_tokens": 0}, "num_speculative_tokens must be 1 to 16, got 0"),
        ({"num_speculative_tokens": 17}, "num_speculative_tokens must be 1 to 16, got 17"),
        ({"prompt_lookup_max": 2, "prompt_lookup_min": 3}, "prompt_lookup_min must be 1 to prompt_lookup_max=2, got 3"),
        ({"prompt_lookup_max": 65}, "prompt_lookup_max must be 1 to 64, got 65"),
    ],
)
def test_speculation_out_of_range_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        SpeculativeOptions(**{"method": "ngram", **fields})


@pytest.mark.parametrize(("most", "fewest"), [({}, 2), ({"prompt_lookup_max": 2}, 2), ({"prompt_lookup_max": 1}, 1)])
def test_what_must_be_found_is_never_more_than_what_is_looked_for(most, fewest):
    assert SpeculativeOptions(method="ngram", **most).fewest_found == fewest


@pytest.mark.parametrize(
    ("sequences", "drafts", "rows"), [(64, 4, 64), (1, 16, 17), (4, None, 4), (4, 3, 16), (40, 4, 64), (1000, 4, 1000)]
)
def test_few_sequences_have_room_for_all_their_drafts(sequences, drafts, rows):
    own = drafts and SpeculativeOptions(method="ngram", num_speculative_tokens=drafts)
    options = ModelOptions(name="a", path=Path("/none"), max_num_seqs=sequences, speculative_config=own or None)
    assert options.most_decode_rows == rows
    speculation = Speculation.of(options)
    assert (speculation.most_drafts, speculation.most_rows) == (drafts, min(rows, MOST_ROWS)) if speculation else drafts is None
