"""Devices are lost and come back: the models are placed on what there is."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from muxjax.cluster.on_ray.nodes import Node
from muxjax.cluster.plan import unit_specs
from muxjax.cost.chip import CHIPS
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.placement.problem import Cluster, Demand, Placed, Placement, Pool, Problem, UnitPlan
from muxjax.server.plans import placing as placing_module
from muxjax.server.plans.placing import Placing
from muxjax.server.plans.refit import Refit, cluster_of, is_due
from muxjax.specs import published
from tests.cluster.kit import check, cluster, in_loop

OPTIONS = UnitOptions(models=tuple(ModelOptions(name=name, path=Path("/none"), max_num_seqs=8) for name in "ab"))


@pytest.fixture(autouse=True)
def any_model(monkeypatch):
    """There are no files of these models."""
    monkeypatch.setattr(placing_module, "ModelPlan", SimpleNamespace(read=lambda *model: None))


def of(nodes: int, width: int, usable: int | None = None) -> Cluster:
    return Cluster.uniform(chip=CHIPS["H200"], nodes=nodes, devices_per_node=width, usable=usable)


def nodes_of(counts: list[int]) -> list[Node]:
    """Of a kind that nobody tells."""
    return [Node(f"h{i}", count) for i, count in enumerate(counts)]


def problem() -> Problem:
    shape = published.BY_NAME["llama-3.2-1b"]
    demands = tuple(Demand(name=name, spec=shape, rate_rps=1.0, prompt_tokens=10, output_tokens=10) for name in "ab")
    return Problem(demands=demands, cluster=of(2, 1))


def placed(asked: Problem) -> Placement:
    """A unit a device, as in the processes of a search."""
    if asked.cluster.devices == 3:
        raise ConfigError("nothing fits three")
    units = ["ab"] if asked.cluster.devices == 1 else ["a", "b"]
    return Placement(
        units=tuple(
            UnitPlan(devices=1, members=tuple(Placed(model=model, rate_rps=1.0, devices=(0,)) for model in models)) for models in units
        )
    )


def listing(asked: Problem) -> Placement:
    raise ConfigError(f"nothing fits {' '.join(demand.name for demand in asked.demands)}")


@dataclass
class Devices:
    """Of nodes, as a test says."""

    counts: list[int] = field(default_factory=lambda: [1, 1])

    async def __call__(self) -> list[Node]:
        return nodes_of(self.counts)


@pytest.mark.parametrize(
    ("wanted", "devices", "there"),
    [
        (of(2, 4), [4, 4, 0], of(2, 4)),
        (of(2, 4), [8, 8, 8], of(2, 4)),
        (of(2, 4), [4], of(1, 4, 4)),
        (of(2, 4), [4, 2], of(2, 4, 6)),
        (of(2, 4), [2, 2, 2, 2], of(4, 2, 8)),
        (of(2, 4, usable=5), [4, 4], of(2, 4, usable=5)),
        (of(2, 4), [0, 0], None),
        (of(2, 4), [], None),
    ],
)
def test_what_there_is_of_a_cluster(wanted, devices, there):
    assert cluster_of(wanted, nodes_of(devices)) == there


def test_what_there_is_of_each_pool_of_a_cluster():
    pools = tuple(Pool(chip=CHIPS[chip], nodes=2, devices_per_node=4) for chip in ("H200", "H100"))
    there = [Node("a", 4, "H100"), Node("b", 4, "H200"), Node("c", 8, "A10G")]

    assert cluster_of(Cluster(pools), there) == Cluster(
        (replace(pools[0], nodes=1, usable=4), replace(pools[1], nodes=1, usable=4)),
    )
    assert cluster_of(Cluster(pools), there[:1]) == Cluster((replace(pools[0], usable=0), replace(pools[1], nodes=1, usable=4)))
    assert cluster_of(Cluster(pools[:1]), there[:1]) is None


def test_another_placement_is_due_when_a_unit_has_lost_its_devices_or_there_are_more():
    whole, half = of(2, 4), of(1, 4, 4)
    assert is_due(whole, half, away=True)
    assert not is_due(whole, half, away=False)  # whoever was there has found room
    assert not is_due(half, half, away=True)  # nothing else would come of it
    assert is_due(half, whole, away=False)


@in_loop
async def test_a_lost_device_s_models_go_to_those_that_are_left_and_back_when_it_is_back(tmp_path):
    async with cluster(tmp_path, *unit_specs(placed(problem()), OPTIONS)) as (asked, launcher):
        devices, placing = Devices(), Placing(asked.engine, placed(problem()), OPTIONS, None)
        refit = asyncio.create_task(Refit(problem=problem(), placing=placing, nodes=devices, search=placed, every_s=0.1).run())
        launcher.is_full, devices.counts = True, [1]
        launcher.kill("0")
        await asked.until(lambda: asked.engine.states() == {"a": "ready", "b": "ready"} and [*asked.engine.units] == ["1"])
        for i in range(8):
            asked.ask(f"r{i}", "ab"[i % 2], max_tokens=100)
        launcher.is_full, devices.counts = False, [1, 1]
        await asked.until(lambda: len(asked.engine.units) == 2 and asked.engine.states() == {"a": "ready", "b": "ready"})
        await asked.ended()
        check(asked)
        refit.cancel()


@in_loop
async def test_models_that_went_are_not_placed_anew(tmp_path):
    async with cluster(tmp_path, *unit_specs(placed(problem()), OPTIONS)) as (asked, _):
        devices, placing = Devices(), Placing(asked.engine, placed(problem()), OPTIONS, None)
        placing.follow(lambda: OPTIONS.models[1:])

        refit = Refit(problem=problem(), placing=placing, nodes=devices, search=listing, every_s=0.1)
        with pytest.raises(ConfigError, match=r"nothing fits b$"):
            await refit._fit(of(1, 1))


@in_loop
async def test_what_cannot_be_placed_is_logged_and_nothing_moves(tmp_path, caplog):
    async with cluster(tmp_path, *unit_specs(placed(problem()), OPTIONS)) as (asked, launcher):
        devices, placing = Devices([2, 1]), Placing(asked.engine, placed(problem()), OPTIONS, None)
        wide = Problem(demands=problem().demands, cluster=of(2, 2))
        refit = asyncio.create_task(Refit(problem=wide, placing=placing, nodes=devices, search=placed, every_s=0.1).run())
        launcher.is_full = True
        launcher.kill("0")
        await asked.until(lambda: "no placement could be served on the 3 devices there are: nothing fits three" in caplog.text)
        assert [*asked.engine.units] == ["0", "1"]
        refit.cancel()
