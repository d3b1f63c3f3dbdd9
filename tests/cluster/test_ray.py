"""Units as actors of a Ray cluster of several nodes on this host: a node goes under load, and no token is lost, doubled or wrong."""

import asyncio
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.cluster.launcher import NoRoom
from muxjax.cluster.on_ray.connect import NAMESPACE, connect, kind_for
from muxjax.cluster.on_ray.launcher import RayLauncher, all_names
from muxjax.cluster.on_ray.nodes import CPU, GPU
from muxjax.cluster.plan import UnitSpec
from muxjax.errors import ConfigError, RequestError
from tests.cluster.fake_worker import build
from tests.cluster.kit import WAIT_S, Asked, check, in_loop, unit

ray = pytest.importorskip("ray")
from ray.util import get_placement_group, placement_group_table  # noqa: E402

STORE_BYTES = 80 * 2**20
NOTICE = {"health_check_period_ms": 500, "health_check_failure_threshold": 12, "health_check_initial_delay_ms": 0}
"""How soon Ray's head misses a node: not one that a busy machine holds up for a few seconds."""


class Nodes:
    """A cluster whose head has no devices, and whose other nodes have one each."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self._folder = tempfile.mkdtemp(prefix="mux-ray-", dir="/tmp")  # short, since sockets lie in it
        os.environ["RAY_TMPDIR"] = self._folder  # where it notes its address, for which it makes no folder
        (Path(self._folder) / "ray").mkdir()
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False, "_system_config": NOTICE}
        self._cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": self._folder})
        self._nodes: dict[str, object] = {}
        ray.init(address=self._cluster.address, namespace=NAMESPACE, log_to_driver=False)

    @property
    def last(self) -> str:
        return [*self._nodes][-1]

    def add(self, devices: int = 1, gpus: int = 0) -> None:
        node = self._cluster.add_node(num_cpus=devices, num_gpus=gpus, object_store_memory=STORE_BYTES)
        self._nodes[node.node_id] = node

    def keep(self, count: int) -> None:
        """Has so many nodes."""
        while len(self._nodes) < count:
            self.add()

    def lose(self, node_id: str) -> None:
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)

    def end(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)
        del os.environ["RAY_TMPDIR"]


@pytest.fixture(scope="module")
def nodes():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Nodes()
    yield cluster
    cluster.end()


def launcher(kind: str = CPU, room_s: float = 30.0, orphan_s: float = 20.0) -> RayLauncher:
    return RayLauncher("test", kind, room_s=room_s, build=build(Path("/nowhere")), orphan_s=orphan_s)


@asynccontextmanager
async def served(*specs, **options):
    asked = Asked(specs, launcher(**options))
    try:
        await asked.start()
        yield asked
    finally:
        await asked.stop()


def wide(name: str, *models: str) -> UnitSpec:
    return replace(unit(name, *models), devices=(0, 1))


def names() -> set[str]:
    """Of what the cluster holds."""
    return {name for name in all_names() if name.startswith("test unit")}


def pid(unit: str) -> int:
    """Of the unit's worker."""
    return ray.get(ray.get_actor(f"test unit {unit}").__ray_call__.remote(lambda actor: os.getpid()))


def variable(unit: str, name: str) -> str:
    """Of the environment of the unit's worker."""
    return ray.get(ray.get_actor(f"test unit {unit}").__ray_call__.remote(lambda actor: os.environ.get(name, "")))


def node_of(unit: str) -> str:

    (node,) = placement_group_table(get_placement_group(f"test unit {unit}"))["bundles_to_node_id"].values()
    return node


def test_a_cluster_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match=r"no cluster to be had at 127\.0\.0\.1:1: Connection refused"):
        connect("127.0.0.1:1")


@in_loop
async def test_a_node_is_lost_under_load_and_its_models_come_back(nodes):
    nodes.keep(3)
    async with served(unit("0", "a"), unit("1", "b")) as asked:
        for i in range(20):
            asked.ask(f"r{i}", "ab"[i % 2], max_tokens=300)
        await asked.until(lambda: all(asked.begun(f"r{i}", 5) for i in range(16)))
        lost, other = node_of("0"), node_of("1")
        assert lost != other
        nodes.lose(lost)
        await asked.ended()
        check(asked)
        assert node_of("0") not in (lost, other)
        assert [asked.engine.units[name].starts for name in "01"] == [2, 1]


@in_loop
async def test_the_next_front_finds_the_actors_of_the_one_before(nodes):
    nodes.keep(2)
    async with served(unit("0", "a"), unit("1", "b")) as asked:
        asked.ask("cut", "a", max_tokens=300)
        await asked.until(lambda: asked.begun("cut", 5))
        pids = [pid(name) for name in "01"]
        await asked.engine.leave()
        launcher().end_others(["0"])  # the next one has no unit 1
        async with served(unit("0", "a")) as second:
            for i in range(10):
                second.ask(f"r{i}", "a")
            await second.ended()
            check(second)
            assert pid("0") == pids[0]
            assert names() == {"test unit 0"}


@in_loop
async def test_a_unit_without_room_says_so_and_is_started_when_there_is_some(nodes):
    nodes.keep(2)
    async with served(unit("0", "a"), wide("1-2", "b"), room_s=1.0) as asked:
        await asked.until(lambda: asked.engine.states() == {"a": "ready", "b": "failed"})
        with pytest.raises(RequestError, match="no node has had 2 free CPUs for it in 1 s"):
            asked.ask("refused", "b")
        del asked.requests["refused"]
        nodes.add(devices=2)
        await asked.until(lambda: asked.engine.states() == {"a": "ready", "b": "ready"})
        asked.ask("a", "a")
        asked.ask("b", "b")
        await asked.ended()
        check(asked)
    nodes.lose(nodes.last)


@in_loop
async def test_a_worker_whose_front_never_comes_back_frees_its_devices(nodes):
    nodes.keep(2)
    async with served(unit("0", "a"), orphan_s=1.0) as asked:
        await asked.engine.leave()
        await asked.until(lambda: not names())


@in_loop
async def test_a_worker_sees_its_devices_and_the_variables_of_the_front(nodes, monkeypatch):
    nodes.keep(1)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    async with served(unit("0", "a")):
        assert variable("0", "XLA_PYTHON_CLIENT_PREALLOCATE") == "false" and variable("0", "JAX_PLATFORMS") == "cpu"
        assert "--xla_force_host_platform_device_count=1" in variable("0", "XLA_FLAGS").split()


@in_loop
async def test_a_worker_sees_the_gpus_that_ray_gave_it(nodes, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nodes.add(devices=0, gpus=4)  # nobody uses them
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")  # of the front's host
    try:
        async with served(wide("0-1", "a"), unit("2", "b"), kind=GPU):
            seen = {each for name in ("0-1", "2") for each in variable(name, "CUDA_VISIBLE_DEVICES").split(",")}
            assert len(seen) == 3 and seen < set("0123")
            assert len(variable("0-1", "CUDA_VISIBLE_DEVICES").split(",")) == 2
    finally:
        nodes.lose(nodes.last)


@in_loop
async def test_the_devices_of_each_node_are_told(nodes):
    nodes.keep(2)
    asked = launcher()
    async with asyncio.timeout(WAIT_S):
        while sorted(node.devices for node in await asked.nodes()) != [0, 1, 1]:  # until Ray misses those of other tests
            await asyncio.sleep(0.1)


def test_units_are_refused_that_the_cluster_cannot_hold(nodes):
    nodes.keep(2)
    with pytest.raises(NoRoom, match="a unit needs 2 CPUs on one node, and the largest node of the cluster has 1"):
        kind_for([wide("0-1", "a")], 0.0)
    assert kind_for([unit("0", "a"), unit("1", "b")], 0.0) == CPU
