"""A server whose models have lanes of their own, from options to answers."""

from pathlib import Path

import pytest

from muxjax.launch.build import Built
from tests.launch.kit import answers, options_of, served, write_model


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_model(tmp_path)


def lanes_of(built: Built) -> list[set[str]]:
    return [set(lane.models) for lane in built.lifecycle._devices._executor.lanes]  # pyright: ignore[reportAttributeAccessIssue]


def test_models_in_lanes_of_their_own_answer_as_in_one_and_a_model_more_goes_where_the_fewest_are(folder):
    with served(folder, dict.fromkeys("ab"), lanes=1) as (built, said):
        wanted = answers(built, said, "ab")
    with served(folder, dict.fromkeys("ab"), lanes=2) as (built, said):
        assert lanes_of(built) == [{"a"}, {"b"}] and answers(built, said, "ab") == wanted
        built.lifecycle.remove("a", timeout_s=60)
        built.lifecycle.load(options_of("c", folder))
        assert lanes_of(built) == [{"c"}, {"b"}]
        assert answers(built, said, "bc") == {"b": wanted["b"], "c": wanted["a"]}
