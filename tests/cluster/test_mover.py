"""Plans that change while requests go on: none fails, and none gets a wrong token."""

import asyncio

import pytest

from muxjax.cluster import lifecycle
from muxjax.cluster.mover import Mover
from muxjax.cluster.remote_unit import UnitState, arrived
from muxjax.errors import ConfigError
from tests.cluster.kit import Asked, check, cluster, in_loop, in_other_bits, unit
from tests.server.kit import spec


def places(asked: Asked) -> dict[str, set[str]]:
    return {name: {model.name for model in stats.models} for name, stats in asked.engine.unit_stats().items()}


async def settled_at(asked: Asked, **wanted: set[str]) -> None:
    await asked.until(lambda: places(asked) == {name[1:]: models for name, models in wanted.items()})


@in_loop
async def test_a_model_moves_between_units_while_all_stream(tmp_path):
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "c")) as (asked, launcher):
        for i in range(12):
            asked.ask(f"r{i}", "abc"[i % 3], max_tokens=150)
        await asked.until(lambda: all(asked.begun(f"r{i}", 5) for i in range(12)))
        change = await Mover(asked.engine, drain_s=0.2).move([unit("0", "a"), unit("1", "c", "b")])
        assert (change.load, change.remove) == ((("1", "b"),), (("0", "b"),))
        asked.ask("after", "b")
        await asked.ended()
        check(asked)
        await settled_at(asked, _0={"a"}, _1={"b", "c"})
        assert launcher.started == ["0", "1"]


@in_loop
async def test_requests_get_their_time_to_end_where_they_are(tmp_path):
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "c")) as (asked, _):
        asked.ask("r", "b", max_tokens=100)
        await asked.until(lambda: asked.begun("r", 5))
        await Mover(asked.engine).move([unit("0", "a"), unit("1", "c", "b")])
        await asked.ended()
        check(asked)
        assert not asked.moved


@in_loop
async def test_units_on_other_devices_take_the_place_of_those_in_their_way(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b", devices=(1,))) as (asked, launcher):
        for i in range(8):
            asked.ask(f"r{i}", "ab"[i % 2], max_tokens=120)
        await asked.until(lambda: all(asked.begun(f"r{i}", 5) for i in range(8)))
        move = asyncio.create_task(Mover(asked.engine, drain_s=0.2).move([unit("0-1", "a", "b", devices=(0, 1))]))
        while not move.done():  # also while no unit is left
            assert asked.engine.healthy and "loading" not in asked.engine.states().values()
            if set(asked.engine.units) == {"0-1"} and "late" not in asked.requests:
                asked.ask("late", "b")
            await asyncio.sleep(0)
        await move
        await asked.ended()
        check(asked)
        await settled_at(asked, **{"_0-1": {"a", "b"}})
        assert launcher.started == ["0", "1", "0-1"] and not launcher.pid("0") and not launcher.pid("1")


@in_loop
async def test_a_unit_that_does_not_start_gives_its_devices_back(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b", devices=(1,))) as (asked, _):
        asked.ask("r", "a", max_tokens=120)
        await asked.until(lambda: asked.begun("r", 5))
        with pytest.raises(ConfigError, match="never can be built"):
            await Mover(asked.engine, drain_s=0.1).move([unit("0-1", "a", "never", devices=(0, 1))])
        asked.ask("after", "b")  # at once
        await asked.ended()
        check(asked)
        await settled_at(asked, _0={"a"}, _1={"b"})


@in_loop
async def test_requests_for_a_model_that_is_placed_no_more_get_their_time_too(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b", devices=(1,))) as (asked, _):
        asked.ask("r", "b", max_tokens=100)
        await asked.until(lambda: asked.begun("r", 5))
        await Mover(asked.engine).move([unit("0", "a")])
        await asked.ended()
        check(asked)
        await settled_at(asked, _0={"a"})


@in_loop
async def test_a_worker_that_is_lost_meanwhile_costs_the_change_nothing(tmp_path):
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "c", devices=(1,))) as (asked, launcher):
        asked.ask("r", "b", max_tokens=150)
        await asked.until(lambda: asked.begun("r", 5))
        launcher.kill("1")
        await asked.until(lambda: asked.engine.units["1"].state is UnitState.RESTARTING)
        move = asyncio.create_task(Mover(asked.engine).move([unit("0", "a"), unit("1", "c", "b", devices=(1,))]))
        await asked.until(lambda: "b" in asked.engine.units["1"].spec.models)
        launcher.kill("0")
        await move
        await asked.ended()
        check(asked)
        await settled_at(asked, _0={"a"}, _1={"b", "c"})


@in_loop
async def test_a_model_that_cannot_come_leaves_all_as_it_was(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b", devices=(1,))) as (asked, _):
        with pytest.raises(ConfigError, match="no room"):
            await Mover(asked.engine).move([unit("0", "a", "b", "large"), unit("1", "b", devices=(1,))])
        await settled_at(asked, _0={"a"}, _1={"b"})
        asked.ask("r", "b")
        await asked.ended()
        check(asked)


@in_loop
async def test_where_there_is_no_room_for_both_what_goes_goes_first(tmp_path):
    async with cluster(tmp_path, unit("0", "a", "b")) as (asked, _):
        asked.ask("r", "a", max_tokens=150)
        await asked.until(lambda: asked.begun("r", 5))
        await Mover(asked.engine, drain_s=0.1).move([unit("0", "a", "large")])
        asked.ask("new", "large")
        await asked.ended()
        check(asked)
        await settled_at(asked, _0={"a", "large"})


@in_loop
async def test_a_model_that_is_added_while_a_plan_changes_is_served_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle, "spec_of", lambda options: spec())
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "c", devices=(1,))) as (asked, _):
        asked.ask("r", "b", max_tokens=100)
        await asked.until(lambda: asked.begun("r", 5))
        move = asyncio.create_task(Mover(asked.engine).move([unit("0", "a"), unit("1", "c", "b", devices=(1,))]))
        await asked.until(lambda: "b" in asked.engine.units["1"].spec.models)  # it is half made
        (added,) = unit("new", "new").options.models
        await asyncio.to_thread(lifecycle.ClusterLifecycle(asked.engine).load, added)
        assert move.done()
        asked.ask("later", "new")
        await asked.ended()
        check(asked)
        assert sorted(model for one in asked.engine.units.values() for model in one.spec.models) == ["a", "b", "c", "new"]


@in_loop
async def test_a_unit_that_has_failed_gets_another_try_by_the_same_plan(tmp_path):
    wanted = [unit("0", "a"), unit("1", "mended", devices=(1,))]
    async with cluster(tmp_path, *wanted) as (asked, launcher):
        assert asked.engine.units["1"].state is UnitState.FAILED
        with pytest.raises(ConfigError, match="unit 1: mended cannot be built yet"):
            await Mover(asked.engine).move(wanted)
        await arrived(asked.engine.units.values())
        (tmp_path / "mended").touch()
        await Mover(asked.engine).move(wanted)
        asked.ask("r", "mended")
        await asked.ended()
        check(asked)
        await Mover(asked.engine).move(wanted)
        assert launcher.started.count("0") == 1 and asked.engine.units["1"].starts == 1


@in_loop
async def test_a_model_in_other_bits_is_loaded_anew_and_its_requests_go_on(tmp_path):
    old = unit("0", "a", "b")
    async with cluster(tmp_path, old, unit("1", "c")) as (asked, launcher):
        for i in range(6):
            asked.ask(f"r{i}", "abc"[i % 3], max_tokens=120)
        await asked.until(lambda: all(asked.begun(f"r{i}", 5) for i in range(6)))
        new = in_other_bits(old, "a", quantization="fp8")
        await Mover(asked.engine, drain_s=0.2).move([new, unit("1", "c")])
        await asked.ended()
        check(asked)
        assert launcher.started == ["0", "1", "0"] and asked.engine.units["0"].spec == new
