"""Workers as actors of a Ray cluster: one a unit, with all of the unit's devices on one host."""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from muxjax.cluster.launcher import Handle, NoRoom
from muxjax.cluster.on_ray.actor import WorkerActor
from muxjax.cluster.on_ray.nodes import CPU, GPU, Node, bundle, environment, nodes
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.wire.frames import TcpAddress, WireError
from muxjax.cluster.worker import ORPHAN_S, Build, launched
from muxjax.errors import first_line

_FOUND_S, _ANSWER_S, _PING_S = 10.0, 120.0, 1.0
"""Time in which an actor must say where it listens: one that is there already, a new one, and one that is asked whether it lives."""
_POLL_S = 0.1
T = TypeVar("T")


class RayLauncher:
    """Workers that Ray starts wherever there is room; they outlive the front, and the next one of the same name finds them again.

    Args:
      server: the front's name, unlike that of any other front of the cluster.
      kind: of the devices, as of `nodes.device_kind`.
      room_s: time in which a unit's devices must be free.
      begin: is called first in an actor's process, with the unit's name: it sets up the log.
      build, orphan_s: as of `Worker`.
    """

    def __init__(
        self,
        server: str,
        kind: str,
        *,
        room_s: float,
        begin: Callable[[str], object] = lambda unit: None,
        build: Build = launched,
        orphan_s: float = ORPHAN_S,
    ):
        self._server, self._kind, self._room_s = server, kind, room_s
        self._begin, self._build, self._orphan_s = begin, build, orphan_s
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="muxjax-ray")  # Ray is asked off the loop, one thing after the other

    async def start(self, spec: UnitSpec) -> Handle:
        """As of `Launcher`.

        Raises:
          NoRoom: its devices have not become free in time.
          WireError: its actor has not come to listen.
        """
        name = self._name(spec.name)
        try:
            if actor := await self._ask(_actor, name):
                with contextlib.suppress(WireError):
                    return RayHandle(await _address(actor, _FOUND_S), actor, functools.partial(self._ask, _remove, name))
            await self._ask(_remove, name)
            group = await self._ask(_reserve, name, spec, self._kind)
            await self._placed(spec, group)
            actor = await self._ask(self._create, spec, group)
            return RayHandle(await _address(actor, _ANSWER_S), actor, functools.partial(self._ask, _remove, name))
        except BaseException:  # cancelled too: what was begun goes, after what is still being done
            self._calls.submit(_remove, name)
            raise

    def end_others(self, units: Iterable[str]) -> None:
        """Ends workers that a front of this name has left, but for those of these units: they hold devices."""
        own = {self._name(unit) for unit in units}
        for name in all_names():
            if name.startswith(self._name("")) and name not in own:
                _remove(name)

    async def nodes(self) -> Sequence[Node]:
        """The living ones, whoever has their devices; none where Ray does not say."""
        import ray
        from ray.exceptions import RayError

        try:
            return nodes(await self._ask(ray.nodes), self._kind)
        except (RayError, RuntimeError):
            return ()

    async def _placed(self, spec: UnitSpec, group: Any) -> None:
        """Waits until the group has its devices.

        Raises:
          NoRoom: it has not got them in time.
        """
        until_s = time.monotonic() + self._room_s
        while not await self._ask(_is_placed, group):
            if time.monotonic() > until_s:
                raise NoRoom(f"no node has had {len(spec.devices)} free {self._kind}s for it in {self._room_s:g} s", field="ray")
            await asyncio.sleep(_POLL_S)

    def _create(self, spec: UnitSpec, group: Any) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        count = len(spec.devices)
        actor = ray.remote(WorkerActor).options(
            name=self._name(spec.name),
            lifetime="detached",
            max_restarts=0,  # whether and when is the front's to say
            num_cpus=count if self._kind == CPU else 0,
            num_gpus=count if self._kind == GPU else 0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group),
            runtime_env={"env_vars": environment(self._kind, count, os.environ)},
        )
        return actor.remote(functools.partial(self._begin, spec.name), self._build, self._orphan_s)

    def _name(self, unit: str) -> str:
        return f"{self._server} unit {unit}"

    async def _ask(self, ask: Callable[..., T], *what: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._calls, ask, *what)


class RayHandle:
    """An actor that serves a unit, and its placement group."""

    def __init__(self, address: TcpAddress, actor: Any, remove: Callable[[], Any]):
        self.address = address
        self._actor, self._remove = actor, remove

    async def gone(self) -> bool:
        from ray.exceptions import ActorDiedError, RayError

        try:
            async with asyncio.timeout(_PING_S):
                await _answer(self._actor)
        except ActorDiedError:
            return True
        except (TimeoutError, RayError):
            return False  # nobody knows yet
        return False

    async def kill(self) -> None:
        await self._remove()


async def _address(actor: Any, most_s: float) -> TcpAddress:
    """Raises WireError: it does not say where it listens."""
    from ray.exceptions import RayError

    try:
        async with asyncio.timeout(most_s):
            return await _answer(actor)
    except TimeoutError as error:
        raise WireError(f"its actor has not begun to listen within {most_s:g} s") from error
    except RayError as error:
        raise WireError(f"its actor could not be started: {first_line(error)}") from error


def _answer(actor: Any) -> "asyncio.Future[TcpAddress]":
    return asyncio.wrap_future(actor.address.remote().future())


def all_names() -> set[str]:
    """Of the actors and placement groups that there are in our namespace."""
    from ray.util import list_named_actors, placement_group_table

    groups = (group["name"] for group in placement_group_table().values() if group["state"] != "REMOVED")
    return {*list_named_actors(), *groups}


def _actor(name: str) -> Any:
    """The living actor of the name, or None."""
    import ray

    try:
        return ray.get_actor(name)
    except ValueError:
        return None


def _reserve(name: str, spec: UnitSpec, kind: str) -> Any:
    """A group of one bundle, since an actor cannot have devices of several."""
    import ray
    from ray.util import placement_group

    return placement_group([bundle(spec, nodes(ray.nodes(), kind), kind)], strategy="STRICT_PACK", name=name, lifetime="detached")


def _is_placed(group: Any) -> bool:
    from ray.util import placement_group_table

    return placement_group_table(group)["state"] == "CREATED"


def _remove(name: str) -> None:
    """Ends the actor and the placement group of the name, if they are there."""
    import ray
    from ray.util import get_placement_group, remove_placement_group

    if (actor := _actor(name)) is not None:
        ray.kill(actor)
    with contextlib.suppress(ValueError):
        remove_placement_group(get_placement_group(name))
