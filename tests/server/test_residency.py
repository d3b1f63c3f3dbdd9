"""Idle models go to sleep, and models of a group make room for each other, in llama-swap's terms."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.engine.options import ModelGroup, ModelOptions, UnitOptions
from muxjax.engine.stats import Status, UnitStats
from muxjax.errors import RequestError
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.residency import Idleness, Residency, making_room, surplus
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine, FakeLifecycle
from tests.server.http.test_app import ask
from tests.server.kit import Server, served


def model(name: str, group: str | None = None, **options) -> ModelOptions:
    return ModelOptions(name=name, path=Path(name), group=group, **options)


def groups(**flags) -> list[ModelGroup]:
    return [ModelGroup(name="x", **flags)]


def test_a_group_swaps_and_excludes_others_unless_it_says_otherwise():
    one, two, other, free = model("one", "x"), model("two", "x"), model("other", "y"), model("free")
    awake = [one, two, other, free]
    assert making_room(one, awake, []) == ["two", "other"]
    assert making_room(one, awake, groups(swap=False)) == ["other"]
    assert making_room(one, awake, groups(exclusive=False)) == ["two"]
    assert making_room(one, awake, groups(swap=False, exclusive=False)) == []
    assert making_room(one, awake, [ModelGroup(name="y", persistent=True)]) == ["two"]
    assert making_room(free, awake, []) == []


def test_of_a_group_that_swaps_the_first_stays_awake_after_a_start():
    assert surplus([model("a", "x"), model("b", "x"), model("c")], groups()) == ["b"]
    assert surplus([model("a", "x"), model("b", "x")], groups(swap=False)) == []
    assert surplus([model("a", "x"), model("b", "y")], groups()) == ["b"]
    assert surplus([model("a", "x"), model("b", "y", ttl_s=1)], [*groups(exclusive=False), ModelGroup(name="y", exclusive=False)]) == []
    assert surplus([model("a"), model("b")], []) == []


def stats(**changes):
    one = FakeEngine(["a"]).stats().models[0]
    return replace(one, **changes)


def test_a_model_is_idle_from_the_last_look_at_which_it_had_something_to_do():
    idleness = Idleness()

    def idle_s(now_s, **changes):
        return idleness.look([stats(**changes)], now_s)["a"]

    assert idle_s(10.0) == 0
    assert idle_s(12.0) == 2
    assert idle_s(13.0, decode_tokens=5) == 0  # between two looks
    assert idle_s(15.0, decode_tokens=5) == 2
    assert idle_s(16.0, decode_tokens=5, running=1) == idle_s(17.0, decode_tokens=5, waiting=1) == 0
    assert idle_s(20.0, decode_tokens=5) == 3
    assert idle_s(90.0, decode_tokens=5, status=Status.ASLEEP) == 0  # woken by hand it has its time again
    assert idle_s(91.0, decode_tokens=5) == 1


class Sleeper:
    """A fleet whose models go to sleep at once; those of a name that begins with "no" refuse."""

    def __init__(self, *models: ModelOptions):
        self.options = UnitOptions(models=models)
        self.slept: list[str] = []
        self.refused = 0

    def states(self):
        return {one.name: "asleep" if one.name in self.slept else "ready" for one in self.options.models}

    async def sleep(self, name: str, *, timeout_s: float) -> None:
        if name.startswith("no"):
            self.refused += 1
            raise RequestError("it has failed", status=409) if self.refused % 2 else OSError("its unit has gone")
        self.slept.append(name)


def test_who_is_idle_for_its_ttl_is_put_to_sleep_once_and_a_refusal_holds_up_nobody():
    fleet = Sleeper(model("no", ttl_s=5), model("a", ttl_s=5), model("late", ttl_s=50), model("never", ttl_s=0), model("none"))
    unit = UnitStats(total_blocks=1, free_blocks=1, block_bytes=1, models=tuple(stats(name=one.name) for one in fleet.options.models))
    residency = Residency(fleet, lambda: unit)
    slept = []
    for now_s in (100.0, 104.0, 105.0, 106.0):
        asyncio.run(residency.look(now_s))
        slept.append(list(fleet.slept))
    assert slept == [[], [], ["a"], ["a"]]
    assert fleet.refused == 1  # it is not tried again at once
    for now_s in (164.0, 165.0, 166.0):
        asyncio.run(residency.look(now_s))
    assert fleet.refused == 2 and fleet.slept == ["a", "late"]


@pytest.fixture
def swapping(catalog):
    """A server of two models of one group, of which the first is awake."""
    unit = UnitOptions(models=(model("a", "x"), model("b", "x")))
    engine, lifecycle = FakeEngine(["a", "b"]), FakeLifecycle(["a", "b"])
    service = Service(engine, Catalog([served(ByteTokenizer(300), name) for name in "ab"]), unit, lifecycle)
    assert service.fleet
    asyncio.run(Residency(service.fleet, service.stats).look(0.0))
    assert lifecycle.states() == {"a": "ready", "b": "asleep"}
    with in_background(service, HttpOptions(port=0)) as url:
        yield Server(engine, service, url), lifecycle


def test_a_request_for_one_of_a_group_wakes_it_and_puts_the_other_to_sleep(swapping):
    server, lifecycle = swapping
    for name, states in (("b", {"a": "asleep", "b": "ready"}), ("a", {"a": "ready", "b": "asleep"})):
        status, *_ = ask(server, "POST", "/v1/completions", {"model": name, "prompt": "hi", "max_tokens": 2})
        assert (status, lifecycle.states()) == (200, states)
