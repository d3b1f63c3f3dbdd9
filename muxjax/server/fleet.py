"""Models that are added to a running service, removed from it, put to sleep and woken."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import CheckpointError, ConfigError, RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.model_files import ModelFiles
from muxjax.types import ModelSpec

T = TypeVar("T")


class Lifecycle(Protocol):
    """The lifecycle of an engine's models: what changes them, each in its time; see `launch.lifecycle.ModelLifecycle`."""

    def states(self) -> Mapping[str, str]: ...
    def programs(self) -> Mapping[str, ProgramProgress]: ...
    def close(self) -> None: ...
    def load(self, options: ModelOptions) -> ModelSpec: ...
    def remove(self, name: str, *, timeout_s: float) -> None: ...
    def sleep(self, name: str, *, timeout_s: float) -> None: ...
    def wake(self, name: str) -> None: ...


class Fleet:
    """The models behind an endpoint, for the tasks of one event loop.

    A change that has begun is carried through, even if nobody waits for it any more.

    Attributes:
      options: the unit's, with the models that there are now.
    """

    def __init__(self, lifecycle: Lifecycle, catalog: Catalog, options: UnitOptions):
        self.options = options
        self._lifecycle, self._catalog = lifecycle, catalog
        self._one = asyncio.Lock()  # change at a time
        self._tasks: set[asyncio.Task] = set()
        self._resting: set[str] = set()  # asleep, or soon
        self._waking: dict[str, asyncio.Task] = {}

    def states(self) -> Mapping[str, str]:
        """State of each model, also of one that is only coming, in a word."""
        return self._lifecycle.states()

    def programs(self) -> Mapping[str, ProgramProgress]:
        """How far the programs of each model are; those that are missing come while it serves."""
        return self._lifecycle.programs()

    def close(self) -> None:
        """Ends what is done beside the engine, which is about to stop."""
        self._lifecycle.close()

    async def add(self, model: ModelOptions) -> None:
        """Serves one more model.

        Raises:
          RequestError: it cannot be served (400), or one of its names is in use (409).
        """
        await self._carry_through(self._add(model))

    async def remove(self, name: str, *, timeout_s: float) -> None:
        """Ends a model: at once for new requests, after so long for all.

        Raises:
          RequestError: there is none of that name (404), or no other one (409).
        """
        await self._carry_through(self._remove(name, timeout_s))

    async def sleep(self, name: str, *, timeout_s: float) -> None:
        """Moves a model's weights to the host's memory when its requests have ended, or after so long.

        Raises:
          RequestError: there is none of that name (404), or it has failed (409).
        """
        self._require(name)
        self._resting.add(name)
        await self._carry_through(self._sleep(name, timeout_s))

    async def wake(self, name: str) -> None:
        """Moves a model's weights back.

        Raises:
          RequestError: there is none of that name (404), it has failed (409), or there is no room for it (400).
        """
        self._require(name)
        if name not in self._waking:
            task = self._waking[name] = asyncio.create_task(self._wake(name))
            task.add_done_callback(lambda _: self._waking.pop(name, None))
        await asyncio.shield(self._waking[name])

    async def awake(self, name: str) -> None:
        """Wakes a model that requests may wake, if it rests; for any other one it does nothing.

        Raises:
          RequestError: it cannot be woken.
        """
        while name in self._resting and any(model.name == name and model.auto_wake for model in self.options.models):
            await self.wake(name)

    async def _add(self, model: ModelOptions) -> None:
        async with self._one:
            if any(model.name == other.name for other in self.options.models):
                raise RequestError(f"The model `{model.name}` is there already.", param="name", code="conflict", status=409)
            with_it = replace(self.options, models=(*self.options.models, model))
            files = await asyncio.to_thread(ModelFiles.read, model)
            spec = await asyncio.to_thread(self._lifecycle.load, model)
            self._catalog.add(files.served(spec, max_model_len=spec.max_len, created=int(time.time())))
            self.options = with_it

    async def _remove(self, name: str, timeout_s: float) -> None:
        async with self._one:
            self._require(name)
            others = tuple(model for model in self.options.models if model.name != name)
            if not others:
                raise RequestError("The last model cannot be removed.", param="name", code="conflict", status=409)
            self._catalog.remove(name)
            await asyncio.to_thread(self._lifecycle.remove, name, timeout_s=timeout_s)
            self.options = replace(self.options, models=others)
            self._resting.discard(name)

    async def _sleep(self, name: str, timeout_s: float) -> None:
        async with self._one:
            try:
                await asyncio.to_thread(self._lifecycle.sleep, name, timeout_s=timeout_s)
            except BaseException:
                self._resting.discard(name)
                raise

    async def _wake(self, name: str) -> None:
        async with self._one:
            try:
                await asyncio.to_thread(self._lifecycle.wake, name)
            except (ConfigError, CheckpointError) as error:
                raise _refused(error) from error
            self._resting.discard(name)

    def _require(self, name: str) -> None:
        """The name itself, no alias of it."""
        if not any(model.name == name for model in self.options.models):
            raise RequestError(f"The model `{name[:200]}` does not exist.", param="name", code="model_not_found", status=404)

    async def _carry_through(self, change: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except (ConfigError, CheckpointError) as error:
            raise _refused(error) from error


def _refused(error: ConfigError | CheckpointError) -> RequestError:
    return RequestError(str(error), param=getattr(error, "field", None) or None, code="model_refused")
