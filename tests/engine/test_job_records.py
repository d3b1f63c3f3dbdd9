"""What is told of jobs that end."""

import itertools

import numpy as np
import pytest

from muxjax.cache.table import TableDelta
from muxjax.engine.executor import SAMPLING, Done, Step
from muxjax.engine.job_records import JobRecord, job_record
from muxjax.engine.lane_times import LaneTimes
from muxjax.types import Request
from tests.engine.test_engine import Harness


def step(*, decodes: int, prefills: int = 0) -> Step:
    rows = decodes + prefills
    zeros = np.zeros(rows, np.int32)
    delta = TableDelta(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 1, 1), np.int32))
    return Step(
        id=1, model="a", decodes=decodes, slots=zeros, starts=zeros, counts=zeros + 1, tokens=zeros,
        sampling=np.zeros(rows, SAMPLING), delta=delta, lane=2, sm_share=96,
    )  # fmt: skip


def done(at_s: float, padding: int = 0) -> Done:
    return Done(step_id=1, tokens=np.zeros(1, np.int32), at_s=at_s, padding_tokens=padding)


def test_a_job_is_told_with_its_times_rows_and_the_requests_it_prefilled():
    assert job_record(step(decodes=2, prefills=1), ("r",), 1.0, done(1.5, padding=13)) == JobRecord(
        model="a", phase="mixed", start_s=1.0, end_s=1.5, rows=3, tokens=3, prefills=("r",), padding=13, lane=2, sm_share=96
    )


@pytest.mark.parametrize("decodes, prefills, phase", [(1, 0, "decode"), (0, 1, "prefill"), (1, 1, "mixed")])
def test_the_phase_is_that_of_the_rows(decodes, prefills, phase):
    assert job_record(step(decodes=decodes, prefills=prefills), (), 0.0, done(1.0)).phase == phase


def test_jobs_of_one_lane_follow_each_other_and_those_of_others_overlap():
    times = LaneTimes()
    ends = [(0, 0.0, 1.0), (1, 0.2, 1.1), (0, 0.1, 2.0), (0, 0.3, 2.5)]  # lane, launch, end
    assert [times.began_s(*end) for end in ends] == [0.0, 0.2, 1.0, 2.0]


def test_an_engine_tells_of_every_token_in_some_job_and_of_each_prefill_once():
    records: list[JobRecord] = []
    harness = Harness(on_job=records.append)
    try:
        requests: list[Request] = [harness.submit(str(i), "abc"[i % 3]) for i in range(6)]
        harness.until_ended(len(requests))
    finally:
        harness.engine.stop()

    assert sorted(itertools.chain.from_iterable(record.prefills for record in records)) == sorted(request.id for request in requests)
    assert sum(record.tokens for record in records) >= sum(len(request.prompt) + 4 for request in requests)
    assert {record.model for record in records} == {"a", "b", "c"}
