"""Models that are added to a running service, removed from it, put to sleep and woken."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from muxjax.engine.device_control import Lifecycle, ProgramProgress
from muxjax.engine.options import LoraOptions, ModelOptions, UnitOptions
from muxjax.engine.stats import Status
from muxjax.errors import CheckpointError, ConfigError, RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.model_files import ModelFiles, open_lora, require_same_tokens
from muxjax.server.residency import DRAIN_S, making_room
from muxjax.server.text.tokenizer import Tokenizer

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Fleet:
    """The models behind an endpoint, for the tasks of one event loop.

    A change that has begun is carried through, even if nobody waits for it any more. There is one at a time: whoever holds the lock
    alone says that a model rests or does not, from before its first request could be turned away until after the last one could.

    Attributes:
      options: the unit's, with the models that there are now.
    """

    def __init__(self, lifecycle: Lifecycle, catalog: Catalog, options: UnitOptions):
        self.options = options
        self._lifecycle, self._catalog = lifecycle, catalog
        self._speculation = {model.name: model.speculative_config for model in options.models}  # whether who drafts is there or not
        self._one = asyncio.Lock()  # change at a time
        self._tasks: set[asyncio.Task] = set()
        self._going = ""  # the one that is being removed
        self._resting: set[str] = set()  # asleep, or on the way there or back; changed under the lock only
        self._waking: dict[str, asyncio.Future[None]] = {}  # of those whose wake is under way, or waits for the lock
        self._entering: Counter[str] = Counter()  # requests that wait for their model to wake

    def states(self) -> Mapping[str, str]:
        """State of each model, also of one that is only coming, in a word."""
        return self._lifecycle.states()

    def programs(self) -> Mapping[str, ProgramProgress]:
        """How far the programs of each model are; those that are missing come while it serves."""
        return self._lifecycle.programs()

    def staying(self) -> tuple[ModelOptions, ...]:
        """Options of the models that there are, but for one that is being removed."""
        return tuple(model for model in self.options.models if model.name != self._going)

    def rests(self, name: str) -> bool:
        """The model is asleep, or on its way there or back."""
        return name in self._resting

    def find(self, name: str) -> ModelOptions:
        """The model of that name or alias.

        Raises:
          RequestError: there is none (404).
        """
        for model in self.options.models:
            if name == model.name or name in model.aliases:
                return model
        raise RequestError(f"The model `{name[:200]}` does not exist.", param="name", code="model_not_found", status=404)

    async def add(self, model: ModelOptions) -> None:
        """Serves one more model.

        Raises:
          RequestError: it cannot be served (400), or one of its names is in use (409).
        """
        await self._carry_through(self._add(model))

    async def remove(self, name: str, *, timeout_s: float) -> None:
        """Ends a model: at once for new requests, after so long for all.

        Raises:
          RequestError: there is none of that name or alias (404), or no other one (409).
        """
        await self._carry_through(self._remove(name, timeout_s))

    async def add_adapter(self, lora: LoraOptions, base: str) -> None:
        """Serves one more adapter over a model.

        Raises:
          RequestError: there is no such model (404), the name is in use (409), or it cannot be served (400).
        """
        await self._carry_through(self._add_adapter(lora, base))

    async def remove_adapter(self, name: str) -> None:
        """Ends an adapter for new requests; those that run go on to their end.

        Raises:
          RequestError: there is none of that name (404).
        """
        await self._carry_through(self._remove_adapter(name))

    async def sleep(self, name: str, *, timeout_s: float) -> None:
        """Moves a model's weights to the host's memory when its requests have ended, or after so long.

        Raises:
          RequestError: there is none of that name or alias (404), or it has failed (409).
        """
        await self._carry_through(self._sleep(name, timeout_s))

    async def wake(self, name: str) -> None:
        """Moves a model's weights back.

        Raises:
          RequestError: there is none of that name or alias (404), it has failed (409), or there is no room for it (400).
        """
        name = self.find(name).name
        if name not in self._waking:
            self._waking[name] = asyncio.get_running_loop().create_future()
            self._start(self._wake(name, self._waking[name]))
        await asyncio.shield(self._waking[name])

    async def awake(self, name: str) -> None:
        """Wakes a model that requests may wake, if it rests; for any other one it does nothing.

        Whoever comes out and submits without a pause is in before the model is put to sleep again.

        Raises:
          RequestError: it cannot be woken.
        """
        if name not in self._resting:
            return
        self._entering[name] += 1
        try:
            while name in self._resting and any(model.name == name and model.is_woken for model in self.options.models):
                await self._wake_for_request(name)
        finally:
            self._entering[name] -= 1

    async def _wake_for_request(self, name: str) -> None:
        """Raises RequestError: it sleeps on. Of one that does not, whoever takes the request knows more."""
        try:
            await self.wake(name)
        except RequestError:
            if name in self._resting:
                raise

    async def _add(self, model: ModelOptions) -> None:
        async with self._one:
            if any(model.name in other.names for other in self.options.models):
                raise RequestError(f"The model `{model.name}` is there already.", param="name", code="conflict", status=409)
            with_it = self._with(model)
            files = await asyncio.to_thread(ModelFiles.read, model)
            self._require_own_tokens(with_it, files)
            await self._make_room(model)
            with _told(model.name, "is loaded"):
                spec = await asyncio.to_thread(self._lifecycle.load, model)
            self._catalog.add(*files.served(spec, max_model_len=spec.max_len, created=int(time.time())))
            self.options, self._speculation[model.name] = with_it, model.speculative_config

    def _with(self, model: ModelOptions) -> UnitOptions:
        """With one model more, which drafts for those that one of its name has drafted for before it went."""
        others = (replace(other, speculative_config=self._speculation[other.name]) for other in self.options.models)
        return self.options.serving((*others, model))

    def _require_own_tokens(self, options: UnitOptions, files: ModelFiles) -> None:
        """Raises ConfigError: a model that comes would draft for one of other tokens, or the other way round."""
        name = files.options.name
        tokenizers: dict[str, Tokenizer | None] = {model.name: model.tokenizer for model in self._catalog} | {name: files.tokenizer}
        for model in options.models:
            drafting = model.draft_model
            if drafting and name in (model.name, drafting) and {model.name, drafting} <= tokenizers.keys():
                require_same_tokens(model.name, tokenizers[model.name], drafting, tokenizers[drafting])

    async def _remove(self, name: str, timeout_s: float) -> None:
        async with self._one:
            name = self.find(name).name
            if len(self.options.models) == 1:
                raise RequestError("The last model cannot be removed.", param="name", code="conflict", status=409)
            served = self._catalog.remove(name)  # nothing where a removal has failed before
            self._going = name
            try:
                with _told(name, "is removed"):
                    await asyncio.to_thread(self._lifecycle.remove, name, timeout_s=timeout_s)
            except BaseException:
                status = self.states().get(name)
                if status in (Status.READY, Status.ASLEEP):
                    self._catalog.add(*served)  # nothing was done
                if status is not None:
                    raise  # otherwise it stays closed, and can be removed again
                _log.exception("the model %s is gone, but not all that it had is free", name)
            finally:
                self._going = ""
            self.options = self.options.without(name)
            self._resting.discard(name)

    async def _add_adapter(self, lora: LoraOptions, base: str) -> None:
        async with self._one:
            model = self.find(base)
            if lora.name in dict(self._catalog.names()):
                raise RequestError(f"The model `{lora.name[:200]}` is there already.", param="name", code="conflict", status=409)
            if not model.lora_places:
                told = f"The model `{model.name}` has no place for adapters: start it with max_loras."
                raise RequestError(told, param="model", code="model_refused")
            served = self._catalog.find(model.name)
            adapter = await asyncio.to_thread(open_lora, lora, model, served.spec)
            self._catalog.add(replace(served.under(adapter), created=int(time.time())))
            self.options = self.options.with_loras(model.name, (*model.loras, lora))

    async def _remove_adapter(self, name: str) -> None:
        async with self._one:
            for model in self.options.models:
                if any(lora.name == name for lora in model.loras):
                    self._catalog.remove(name)
                    self.options = self.options.with_loras(model.name, tuple(lora for lora in model.loras if lora.name != name))
                    return
            raise RequestError(f"The adapter `{name[:200]}` does not exist.", param="name", code="model_not_found", status=404)

    async def _sleep(self, name: str, timeout_s: float) -> None:
        async with self._one:
            await self._lay_down(self.find(name).name, timeout_s)

    async def _lay_down(self, name: str, timeout_s: float) -> None:
        """Under the lock."""
        self._resting.add(name)
        try:
            with _told(name, "is put to sleep"):
                await asyncio.to_thread(self._lifecycle.sleep, name, timeout_s=timeout_s)
        except BaseException:
            self._look(name)
            raise

    async def _make_room(self, waking: ModelOptions) -> None:
        """Under the lock: puts to sleep the models that its group asks to."""
        states = self.states()
        awake = [model for model in self.options.models if states.get(model.name) == Status.READY]
        for name in making_room(waking, awake, self.options.groups):
            await self._lay_down(name, DRAIN_S)

    async def _wake(self, name: str, woken: asyncio.Future[None]) -> None:
        async with self._one:
            try:
                await self._make_room(self.find(name))
                with _told(name, "is woken"):
                    await asyncio.to_thread(self._lifecycle.wake, name)
                self._resting.discard(name)
                woken.set_result(None)
            except Exception as error:
                self._look(name)
                woken.set_exception(
                    RequestError.of(error, code="model_refused") if isinstance(error, ConfigError | CheckpointError) else error
                )
            del self._waking[name]
            while self._entering[name]:
                await asyncio.sleep(0)  # all of them waited for this wake, and go in before anybody puts the model to sleep again

    def _look(self, name: str) -> None:
        """After a change that did not come to its end: whatever it left, a request does the right thing."""
        if self.states().get(name) == Status.ASLEEP:
            self._resting.add(name)
        else:
            self._resting.discard(name)

    async def _carry_through(self, change: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.shield(self._start(change))
        except (ConfigError, CheckpointError) as error:
            raise RequestError.of(error, code="model_refused") from error

    def _start(self, change: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.info("a change of the models was not made: %s", task.exception())  # whoever asked for it may have left


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """The log tells when a change of a model begins, and how long it took."""
    _log.info("the model %s %s", name, what)
    began_s = time.monotonic()
    yield
    _log.info("the model %s %s: done in %.1f s", name, what, time.monotonic() - began_s)
