"""What is told of jobs that end."""

import itertools

import numpy as np
import pytest

from muxjax.cache.table import TableDelta
from muxjax.engine.executor import SAMPLING, Done, Step
from muxjax.engine.job_records import JobRecord, JobRecorder
from muxjax.scheduler.view import Chunk, Job
from muxjax.types import Request
from tests.engine.test_engine import Harness


@pytest.fixture
def records() -> list[JobRecord]:
    return []


@pytest.fixture
def watch(records) -> JobRecorder:
    return JobRecorder(records.append)


def step(number: int, model: str, *, decodes: int, prefills: int = 0, lane: int = 0) -> Step:
    rows = decodes + prefills
    zeros = np.zeros(rows, np.int32)
    delta = TableDelta(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 1, 1), np.int32))
    return Step(
        id=number, model=model, decodes=decodes, slots=zeros, starts=zeros, counts=zeros + 1, tokens=zeros,
        sampling=np.zeros(rows, SAMPLING), delta=delta, lane=lane,
    )  # fmt: skip


def done(number: int, at_s: float, padding: int = 0) -> Done:
    return Done(step_id=number, tokens=np.zeros(1, np.int32), at_s=at_s, padding_tokens=padding)


DECODE = Job(model="a", decode=True)


def test_a_job_is_told_with_its_times_rows_and_the_requests_it_prefilled(watch, records):
    watch.launched(step(1, "a", decodes=2, prefills=1), Job(model="a", chunks=(Chunk(request_id="r", tokens=1),), decode=True), 1.0)
    assert records == []
    watch.finished([done(1, 1.5, padding=13)])

    assert records == [JobRecord(model="a", phase="mixed", start_s=1.0, end_s=1.5, rows=3, tokens=3, prefills=("r",), padding=13)]


@pytest.mark.parametrize("decodes, prefills, phase", [(1, 0, "decode"), (0, 1, "prefill"), (1, 1, "mixed")])
def test_the_phase_is_that_of_the_rows(watch, records, decodes, prefills, phase):
    watch.launched(step(1, "a", decodes=decodes, prefills=prefills), DECODE, 0.0)
    watch.finished([done(1, 1.0)])

    assert records[0].phase == phase


def test_jobs_of_one_lane_follow_each_other_and_those_of_others_overlap(watch, records):
    watch.launched(step(1, "a", decodes=1), DECODE, 0.0)
    watch.launched(step(2, "a", decodes=1), DECODE, 0.1)
    watch.launched(step(3, "b", decodes=1, lane=1), Job(model="b", decode=True), 0.2)
    watch.launched(step(4, "c", decodes=1), Job(model="c", decode=True), 0.3)
    watch.finished([done(1, 1.0), done(3, 1.1), done(2, 2.0), done(4, 2.5)])

    times = [(record.model, record.lane, record.start_s, record.end_s) for record in records]
    assert times == [("a", 0, 0.0, 1.0), ("b", 1, 0.2, 1.1), ("a", 0, 1.0, 2.0), ("c", 0, 2.0, 2.5)]


def test_steps_that_never_end_are_forgotten(watch, records):
    for number in range(2000):
        watch.launched(step(number, "a", decodes=1), DECODE, 0.0)
    watch.finished([done(0, 1.0), done(1999, 1.0)])

    assert len(records) == 1


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
