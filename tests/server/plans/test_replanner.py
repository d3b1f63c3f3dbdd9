"""Looks of the replanner, at metrics and with a search that a test makes up."""

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import SimpleNamespace

import pytest

from muxjax.commands.problem_file import read_problem
from muxjax.placement.problem import Placement, Problem, UnitPlan
from muxjax.server.plans import replanner
from muxjax.server.plans.replanner import Better, Replanner
from tests.two_models import placed, write_problem

OLD = Placement(units=(UnitPlan(devices=1, members=(placed("a", 0), placed("b", 0))),))
NEW = Placement(units=(UnitPlan(devices=1, members=(placed("a", 0),)), UnitPlan(devices=1, members=(placed("b", 0),))))


class FakePlacing:
    def __init__(self):
        self.placement, self.moves, self.models = OLD, [], frozenset("ab")

    def change_to(self, placement: Placement) -> list[str]:
        return [] if placement == self.placement else ["b moves"]

    async def move_to(self, placement: Placement) -> list[str]:
        self.moves.append(placement)
        self.placement = placement
        return ["b moves"]


class Here(Executor):
    """In place of a process."""

    def __init__(self, *args, **kwargs):
        pass

    def submit(self, fn, /, *args, **kwargs):
        done: Future = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """Runs some looks, each of which finds 40 requests for a in the tenth of a second since the last; returns placing and the problems that
    were searched."""
    monkeypatch.setattr(replanner, "search_process", Here)
    monkeypatch.setattr(replanner, "time", SimpleNamespace(monotonic=itertools.count(0.0, 0.1).__next__))
    problem = read_problem(write_problem(tmp_path))

    def run(*, gains: list[float], applies: bool, models: str = "ab", served: Placement = OLD, until: Callable[[], bool] | None = None):
        placing, searched, ended = FakePlacing(), [], iter(range(0, 10_000, 40))
        placing.models, placing.placement = frozenset(models), served

        def exposition() -> bytes:
            count = next(ended)
            samples = {"request_success_total": count, "prompt_tokens_total": 100 * count, "generation_tokens_total": 10 * count}
            return "".join(
                f'# TYPE vllm:{name} counter\nvllm:{name}{{model_name="a"}} {value}\n' for name, value in samples.items()
            ).encode()

        def search(problem: Problem, now: Placement) -> Better:
            searched.append(problem)
            return Better(NEW, gains[len(searched) - 1])

        async def looked() -> None:
            planner = Replanner(problem=problem, placing=placing, exposition=exposition, search=search, every_s=0.01, applies=applies)  # pyright: ignore[reportArgumentType]
            task = asyncio.create_task(planner.run())
            while not until() if until else len(searched) < len(gains):
                await asyncio.sleep(0.001)
                assert not task.done()
            await asyncio.sleep(0.002)
            task.cancel()

        asyncio.run(looked())
        return placing, searched

    return run


def test_a_dry_run_moves_nothing(looks):
    placing, searched = looks(gains=[0.5] * 4, applies=False)
    assert placing.moves == [] and len(searched) == 4


def test_a_lasting_gain_is_taken_once(looks):
    placing, _ = looks(gains=[0.5, 0.5, 0.5, 0.5], applies=True)
    assert placing.moves == [NEW]


def test_a_gain_that_comes_and_goes_is_not(looks):
    placing, _ = looks(gains=[0.5, 0.0, 0.5, 0.0], applies=True)
    assert placing.moves == []


def test_it_plans_by_what_came(looks):
    _, searched = looks(gains=[0.0], applies=True)
    a, b = searched[0].demands
    assert (a.prompt_tokens, a.output_tokens) == (100.0, 10.0) and a.rate_rps == pytest.approx(400)
    assert (b.rate_rps, b.prompt_tokens) == (1.0, 80.0), "nobody said anything of b"


def test_models_that_went_are_not_placed(looks):
    _, searched = looks(gains=[0.0], applies=True, models="b")
    assert [demand.name for demand in searched[0].demands] == ["b"]


def test_models_that_came_are_not_lost_to_a_problem_without_them(looks, caplog):
    served = Placement(units=(*OLD.units, UnitPlan(devices=1, members=(placed("late", 0),))))
    told = "late would not be served any more, which the problem does not have"
    placing, searched = looks(gains=[], applies=True, models="ab,late", served=served, until=lambda: told in caplog.text)
    assert not searched and placing.moves == []
