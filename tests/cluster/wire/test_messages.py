import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cache.layout import CacheLayout
from muxjax.cluster.wire import messages as wire
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.job_records import JobRecord
from muxjax.engine.stats import Status
from muxjax.errors import RequestError
from muxjax.types import Finish, Grammar, GrammarKind, Logprobs, Output, Pooling, Request, Sampling
from tests.cluster.kit import unit
from tests.server.kit import spec

OPTIONS = unit("0", "a", "b").options
SAMPLING = Sampling(
    temperature=0.0,
    stop_token_ids=frozenset({1, 2}),
    logit_bias=((3, -1.5),),
    allowed_token_ids=frozenset({4}),
    bad_words=((1, 2), (3,)),
    grammar=Grammar(kind=GrammarKind.REGEX, text="[ab]+"),
    logprobs=2,
    pooling=Pooling.MEAN,
)
REQUEST = Request(id="r", model="a", prompt=(1, 2), sampling=SAMPLING, arrival_s=100.0, tenant="t", begun=(7, 8))
JOB = JobRecord(model="a", phase="mixed", start_s=90.0, end_s=91.0, rows=3, tokens=9, prefills=("r",), sm_share=64)
TOLD = Logprobs(5, -0.5, ((5, -0.5), (6, -1.0)))
OUTPUTS = [Output("r", 5, None, 99.0, TOLD, (TOLD,), 3, bytes(8)), Output("q", None, Finish.ABORT, 100.0)]
FROM_FRONT = [
    wire.Hello(1, "v", OPTIONS),
    wire.Submit(3.0, REQUEST),
    wire.Cancel("r"),
    wire.Load(1, OPTIONS.models[0]),
    wire.Remove(2, "a", 1.0),
    wire.Sleep(3, "a", 1.0),
    wire.Wake(4, "a"),
    wire.Stop(),
]
LAYOUT = CacheLayout(windows=(None, 5), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512)
FROM_WORKER = [
    wire.Welcome(OPTIONS),
    wire.Report("a line"),
    wire.Facts("cpu", 10, (wire.ModelFact("a", LAYOUT, 8, 40, 50, True, 4, Status.FAILED, "why"),)),
    wire.Turn(100.0, OUTPUTS, [JOB]),
    wire.Refused("r", "no", 503),
    wire.Changed(1, "", spec()),
    wire.Pulse(True, None, {"a": ProgramProgress(1, 2, ("x",))}, {"a": "ready"}),
    wire.Broken("why", True),
]


@pytest.mark.parametrize("message", FROM_FRONT)
def test_what_the_front_says_arrives(message):
    assert wire.from_front(wire.encode(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER)
def test_what_a_worker_says_arrives(message):
    assert wire.from_worker(wire.encode(message)) == message


def test_ages_cross_the_border_and_clocks_do_not():
    """The worker's clock says 5 when the front's says 103: a request that came 3 s ago came at 2."""
    submit = wire.from_front(wire.encode(wire.Submit(103.0, REQUEST)))
    assert wire.arrived(submit, 5.0).arrival_s == pytest.approx(2.0)
    turn = wire.from_worker(wire.encode(wire.Turn(100.0, OUTPUTS, [JOB])))
    assert [output.at_s for output in wire.outputs_of(turn, 7.0)] == pytest.approx([6.0, 7.0])
    assert [output._replace(at_s=0.0) for output in wire.outputs_of(turn, 7.0)] == [output._replace(at_s=0.0) for output in OUTPUTS]
    assert [(job.start_s, job.end_s) for job in wire.jobs_of(turn, 7.0)] == [pytest.approx((-3.0, -2.0))]


def test_a_refusal_keeps_its_status():
    refused = wire.refusal("r", RequestError("no", code="busy", status=503))
    assert (refused.message, refused.status) == ("no", 503)


@given(st.binary(max_size=200))
def test_nonsense_is_a_value_error(data):
    for decode in (wire.from_front, wire.from_worker):
        with contextlib.suppress(ValueError):
            decode(data)
