"""A step that fails on a real device: its model is told apart, and the others get the tokens that they would have had."""

import errno
import random
from collections.abc import Callable

import jax
import numpy as np
import pytest

from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.launch_queue import GIVE_UP_S
from muxjax.device.step import StepArrays
from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import by_name
from muxjax.types import Finish, Output, Request, Sampling
from tests.device.test_executor import BLOCKS, SLOTS, SPEC, layout_of, make_executor
from tests.fake_device import FakeClock


@pytest.fixture(scope="module")
def wanted() -> dict[str, list[int | None]]:
    return tokens(serve(Serving(make_executor(1)), after=0, spoil=lambda model: None))


class Serving:
    """Two models on a device, six requests of each."""

    def __init__(self, executor: DeviceExecutor):
        configs = [ModelConfig(name=name, layout=layout_of(1), slots=SLOTS, max_tokens=SPEC.max_len) for name in "ab"]
        self.unit = Unit(configs, total_blocks=BLOCKS, token_budget=24, max_rows=2, look_ahead=2)
        self.executor = executor
        sampling = [Sampling(temperature=t, max_tokens=12, seed=7) for t in (0.0, 1.0, 0.0)]
        for i in range(12):
            prompt = tuple(range(i, 2 * i + 1))
            self.unit.submit(Request(id=f"{'ab'[i % 2]}{i}", model="ab"[i % 2], prompt=prompt, sampling=sampling[i % 3], arrival_s=0.0))


def serve(serving: Serving, *, after: int, spoil: Callable) -> dict[str, list[Output]]:
    """All outputs by request; after so many turns model "a" is spoilt."""
    outputs: dict[str, list[Output]] = {}
    policy, clock = by_name("adbs"), FakeClock()
    for count in range(10_000):
        if count == after:
            spoil(serving.executor.models["a"])
        for output in turn(serving.unit, policy, serving.executor, clock):
            outputs.setdefault(output.request_id, []).append(output)
        if serving.unit.idle:
            return outputs
    raise AssertionError("requests without an end")


def tokens(outputs: dict[str, list[Output]]) -> dict[str, list[int | None]]:
    return {request_id: [output.token for output in each] for request_id, each in outputs.items()}


def not_a_number(model) -> None:
    model.weights = jax.tree.map(lambda leaf: leaf * np.nan, model.params)


def no_launch(model) -> None:
    model.steps.clear()


def nothing_follows(model) -> None:
    """The step itself is launched, and has the arena; what draws its tokens is not."""
    model.post_step.run = lambda *arguments: raise_out_of_memory()


def raise_out_of_memory():
    raise RuntimeError("out of memory")


def takes_the_arena_and_raises(model) -> None:
    def step(params, blocks_NE, *rest):
        blocks_NE.delete()
        raise RuntimeError("out of memory")

    model.steps = dict.fromkeys(model.steps, step)


def refused_for_a_while(times: int) -> Callable:
    """Spoils a model so that so many launches, of steps and of updates of tables, fail before anything has been done."""

    def spoil(model) -> None:
        left = [times]

        def refusing(program):
            def launch(*arguments):
                if left[0]:
                    left[0] -= 1
                    raise OSError(errno.EMFILE, "too many open files")
                return program(*arguments)

            return launch

        model.steps = {shape: refusing(step) for shape, step in model.steps.items()}
        model.tables = {entries: refusing(update) for entries, update in model.tables.items()}

    return spoil


def fails_while_it_runs(model) -> None:
    """As an error of a device does: what the step gave back is there, and raises when it is looked at, whoever has used it since."""

    def explode(tokens_B):
        raise RuntimeError("illegal address")

    @jax.jit
    def spoilt(arrays: StepArrays) -> StepArrays:
        tokens_B = jax.pure_callback(explode, arrays.tokens_B, arrays.tokens_B)
        return arrays._replace(tokens_B=tokens_B, blocks_NE=arrays.blocks_NE + tokens_B[0], last_S=arrays.last_S + tokens_B[0])

    def breaking(step):
        return lambda *arguments: spoilt(step(*arguments))

    model.steps = {shape: breaking(step) for shape, step in model.steps.items()}


@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("spoil", [not_a_number, no_launch, nothing_follows, takes_the_arena_and_raises, fails_while_it_runs])
def test_a_model_that_fails_ends_its_requests_and_costs_the_others_no_token(spoil, after, wanted):
    serving = Serving(make_executor(1))
    outputs = serve(serving, after=after, spoil=spoil)
    assert all(each[-1].finish is Finish.LENGTH for name, each in outputs.items() if name[0] == "b")
    assert {name: each for name, each in tokens(outputs).items() if name[0] == "b"} == {n: t for n, t in wanted.items() if n[0] == "b"}
    failed = [each for name, each in outputs.items() if name[0] == "a"]
    assert len(failed) == 6 and any(each[-1].finish is Finish.FAILED for each in failed)
    assert all([output.finish is not None for output in each] == [False] * (len(each) - 1) + [True] for each in failed)
    stats = serving.unit.stats()
    assert [model.status for model in stats.models] == [Status.FAILED, Status.READY] and stats.free_blocks == stats.total_blocks


@pytest.mark.parametrize("spoil", [no_launch, nothing_follows])
def test_a_launch_that_leaves_an_arena_costs_no_new_one(spoil):
    serving = Serving(make_executor(1))
    serving.executor.lanes[0].renew = lambda: pytest.fail("another arena")
    assert any(each[-1].finish is Finish.FAILED for each in serve(serving, after=5, spoil=spoil).values())


@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("times", [1, 7])
def test_a_launch_that_fails_for_a_while_costs_nobody_a_token(times, after, wanted, caplog):
    serving = Serving(make_executor(1))
    outputs = serve(serving, after=after, spoil=refused_for_a_while(times))

    assert tokens(outputs) == wanted
    assert [model.status for model in serving.unit.stats().models] == [Status.READY, Status.READY]
    assert [record.message for record in caplog.records] == [
        "a step of a cannot be launched, and is tried again for a while",
        f"a step of a is launched after {times} tries that failed",
    ]


@pytest.mark.parametrize("seed", range(4))
def test_launches_of_all_models_that_fail_at_random_change_no_token(seed, wanted):
    draw, refused, now_s = random.Random(seed), [0], [0.0]

    def spoil(model) -> None:
        def refusing(program):
            def launch(*arguments):
                if draw.random() < 0.4:
                    refused[0] += 1
                    raise draw.choice([OSError(errno.EMFILE, "too many open files"), MemoryError(), RuntimeError("random_device")])
                return program(*arguments)

            return launch

        model.steps = {shape: refusing(step) for shape, step in model.steps.items()}
        model.tables = {entries: refusing(update) for entries, update in model.tables.items()}

    executor = make_executor(1, clock=lambda: now_s[0], sleep=lambda s: now_s.__setitem__(0, now_s[0] + s))
    serving = Serving(executor)
    for model in executor.models.values():
        spoil(model)

    assert tokens(serve(serving, after=0, spoil=lambda model: None)) == wanted and refused[0] > 10
    assert all(model.status is Status.READY for model in serving.unit.stats().models)


def test_a_launch_that_fails_for_too_long_fails_its_model(wanted):
    now_s = [0.0]
    executor = make_executor(1, clock=lambda: now_s[0], sleep=lambda s: now_s.__setitem__(0, now_s[0] + s))
    serving = Serving(executor)
    outputs = serve(serving, after=5, spoil=refused_for_a_while(10**9))

    assert {name: each for name, each in tokens(outputs).items() if name[0] == "b"} == {n: t for n, t in wanted.items() if n[0] == "b"}
    assert [model.status for model in serving.unit.stats().models] == [Status.FAILED, Status.READY]
    assert GIVE_UP_S <= now_s[0] < GIVE_UP_S + 1


def test_a_device_that_gives_no_memory_any_more_is_lost():
    serving = Serving(make_executor(1))

    def gone() -> None:
        raise MemoryError("no arena")

    def lose(model) -> None:
        takes_the_arena_and_raises(model)
        serving.executor.lanes[0].renew = gone

    with pytest.raises(MemoryError, match="no arena"):
        serve(serving, after=2, spoil=lose)
