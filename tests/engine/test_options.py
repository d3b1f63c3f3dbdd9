from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.speculation.method import MOST_ROWS, Speculation
from muxjax.engine.speculation.options import SpeculativeOptions
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
        ({"method": "eagle"}, "method must be one of ngram, draft_model, got 'eagle'"),
        ({"method": "draft_model"}, "model must be the name of a model, got None"),
        ({"model": "small"}, "model must be none for ngram, got 'small'"),
        ({"num_speculative_tokens": 0}, "num_speculative_tokens must be 1 to 16, got 0"),
        ({"num_speculative_tokens": 17}, "num_speculative_tokens must be 1 to 16, got 17"),
        ({"prompt_lookup_max": 2, "prompt_lookup_min": 3}, "prompt_lookup_min must be 1 to prompt_lookup_max=2, got 3"),
        ({"prompt_lookup_max": 65}, "prompt_lookup_max must be 1 to 64, got 65"),
    ],
)
def test_speculation_out_of_range_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        SpeculativeOptions(**{"method": "ngram", **fields})


def drafted(**by: str | None) -> UnitOptions:
    """Models by name, each with the name of its draft model."""
    said = {name: draft and SpeculativeOptions(method="draft_model", model=draft) for name, draft in by.items()}
    return UnitOptions(models=tuple(replace(model(name), speculative_config=own or None) for name, own in said.items()))


def test_another_model_of_the_unit_may_draft_and_one_that_names_itself_has_no_draft_model():
    options = drafted(big="small", small="small")
    assert [model.draft_model for model in options.models] == ["small", None]
    with pytest.raises(ConfigError, match="speculative_config must be a model of the same unit: big, small, got 'smol'"):
        drafted(big="smol", small=None)
    with pytest.raises(ConfigError, match="speculative_config must be a model that has no draft model itself, got 'small'"):
        drafted(big="small", small="tiny", tiny=None)


def test_without_its_draft_model_beside_it_a_model_makes_its_tokens_alone():
    options = drafted(big="small", small=None, other=None)
    assert options.without("other").models[0].draft_model == "small"
    assert options.without("small").models[0].speculative_config is None


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
