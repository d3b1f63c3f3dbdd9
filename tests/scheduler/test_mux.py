"""What `mux` plans on lanes: who prefills, how much, and on how many multiprocessors."""

from dataclasses import replace

import pytest

from muxjax.scheduler.adbs import adbs
from muxjax.scheduler.mux import LEAST_TOKENS, PATIENCE_S, SLACK, mux
from muxjax.scheduler.pace import Pace
from muxjax.scheduler.view import SHARED_TOKENS, TOKEN_GRAIN, ModelView
from tests.scheduler.pictures import decoding, model, on_lanes, prefill_of, view, waits


def test_prefills_on_every_lane_and_adbs_on_one():
    picture = on_lanes(waits("a"), waits("b", prefills_in_flight=1, in_flight=1), waits("c"))

    assert {job.model for job in mux(picture).jobs} == {"a", "b", "c"}
    assert adbs(picture).jobs == ()


def test_has_models_of_one_lane_prefill_one_at_a_time_in_turn():
    picture = view(waits("a", last_prefill=2), waits("b", last_prefill=1))

    assert mux(picture).jobs == (prefill_of("b"),)
    assert mux(view(waits("a", prefills_in_flight=1), waits("b"))).jobs == ()
    assert mux(view(waits("a", prefills_in_flight=1), model("b"))).jobs == (prefill_of("a"),)


@pytest.mark.parametrize(
    ("tpot_s", "tokens"), [(None, (PATIENCE_S - 0.01) / 1e-4), (0.05, (SLACK * 0.05 - 0.01) / 1e-4), (0.001, LEAST_TOKENS)]
)
def test_prefills_no_more_than_those_that_decode_have_time_for(tpot_s, tokens):
    pace = Pace(step_s=0.01, token_s=1e-4)
    picture = on_lanes(waits("a", tokens=5000, pace=pace), decoding("b", 3, tpot_s=tpot_s))

    (chunk,) = mux(picture).jobs[0].chunks
    assert chunk.tokens % TOKEN_GRAIN == 0 and 0 <= tokens - chunk.tokens < TOKEN_GRAIN
    assert mux(on_lanes(waits("a", tokens=5000, pace=pace), model("b", tpot_s=tpot_s))).jobs[0].chunks[0].tokens == 2048


@pytest.mark.parametrize(("prompt", "tokens"), [(5000, 256), (300, 256), (200, 200)])
def test_cuts_prompts_to_a_size_that_steps_have(prompt, tokens):
    pace = Pace(step_s=0.01, token_s=1e-4)  # 300 tokens in the time there is
    asked = waits("a", tokens=prompt, pace=pace, step_sizes=(128, 256, 512))

    assert mux(on_lanes(asked, decoding("b", 3, tpot_s=0.05))).jobs[0].chunks[0].tokens == tokens


def test_cuts_prompts_to_what_its_own_decodes_leave_of_a_size():
    asked = waits("a", tokens=5000, pace=Pace(step_s=0.01, token_s=1e-4), step_sizes=(128, 256, 512))

    assert mux(on_lanes(replace(asked, decoding=10), decoding("b", 3, tpot_s=0.05))).jobs[0].chunks[0].tokens == 256 - 16


HURRIED = Pace(step_s=0.0, token_s=1e-4)
"""0.2 s for 2,000 tokens on all multiprocessors, 0.275 on 96 of 132, 0.33 on 80."""


def share_of(*neighbours: ModelView, tokens: int = 2000, **changes) -> int | None:
    """The share that a prefill of so many tokens gets, which has waited since 0 s, at 10 s."""
    asked = waits("a", tokens=tokens, arrival_s=0.0, pace=HURRIED, sm_shares=(80, 96, 132), **changes)
    (job,) = [job for job in mux(on_lanes(asked, *neighbours, now_s=10.0)).jobs if job.chunks]
    return job.sm_share


BESIDE = decoding("b", 3, tpot_s=1.0)


@pytest.mark.parametrize(
    ("ttft_s", "share"), [(None, 80), (10.34, 80), (10.32, 96), (10.28, 96), (10.26, None), (10.21, None), (10.19, 80), (9.0, 80)]
)
def test_prefills_on_as_few_multiprocessors_as_first_tokens_have_time_for_and_late_ones_need_no_more(ttft_s, share):
    assert share_of(BESIDE, ttft_s=ttft_s) == share


def test_leaves_multiprocessors_to_nobody_and_to_no_lane_of_its_own():
    assert share_of(model("b")) is None
    asked = waits("a", tokens=2000, sm_shares=(80, 132))
    assert {job.sm_share for job in mux(view(asked, BESIDE, token_budget=2048)).jobs} == {None}


def test_has_short_prefills_use_all_and_whoever_has_no_such_kernel():
    assert share_of(BESIDE, tokens=SHARED_TOKENS) == 80
    assert share_of(BESIDE, tokens=SHARED_TOKENS - 1) is None
    assert {job.sm_share for job in mux(on_lanes(waits("a", tokens=2000), BESIDE)).jobs} == {None}


def test_does_not_cut_a_prefill_that_leaves_multiprocessors_to_those_who_are_in_a_hurry():
    hurried = decoding("b", 3, tpot_s=0.05)
    asked = waits("a", tokens=5000, pace=HURRIED)
    sharing = replace(asked, sm_shares=(80, 96, 132))

    def prefill(*models):
        (job,) = [job for job in mux(on_lanes(*models)).jobs if job.chunks]
        return job.chunks[0].tokens, job.sm_share

    assert prefill(asked, hurried) == (448, None)
    assert prefill(sharing, hurried) == (2048, 80)
    assert prefill(replace(sharing, decoding=1, running=1, tpot_s=0.05), hurried) == (448, None)  # it would hold up its own
    assert prefill(replace(sharing, decoding=1, running=1, tpot_s=0.25), hurried) == (1360, 80)


def test_counts_what_is_left_of_a_long_prompt_for_its_first_token():
    assert share_of(BESIDE, tokens=8000, ttft_s=11.0) is None
    assert share_of(BESIDE, tokens=8000, ttft_s=11.2) == 96


def test_a_lane_that_waits_for_blocks_has_no_other_admit_what_it_waits_for():
    picture = on_lanes(waits("a", blocks=90, last_prefill=1), waits("b", blocks=20, last_prefill=2), free=50)

    assert mux(picture).jobs == ()
    assert [job.model for job in mux(replace(picture, free_blocks=130)).jobs] == ["a", "b"]
    assert [job.model for job in mux(replace(picture, free_blocks=119)).jobs] == ["a"]
