"""A service whose changes of models go on only when the test says so, turn by turn."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.stats import ONLY_UNIT, Status, UnitStats
from muxjax.errors import ConfigError, RequestError
from muxjax.model_spec import ModelSpec
from muxjax.server.catalog import Catalog
from muxjax.server.generation import Stamp
from muxjax.server.openai.schema import parse_completion
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from muxjax.server.work_pool import WorkPool, WorkPools
from muxjax.types import Finish, Output, Request
from tests.server.kit import served, spec

WAIT_S = 120.0
T = TypeVar("T")
AUTO_WAKE = {"a": True, "b": False, "c": True}


class Call:
    """A function in a thread of its own that goes on only when it is told to, from one pause to the next."""

    _current = threading.local()

    def __init__(self, function: Callable[[], Any]):
        self.future: Future = Future()
        self.fault = False  # the turn that begins is to fail
        self._function = function
        self._go, self._there = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def advance(self, *, fault: bool = False) -> None:
        """Returns when it pauses again or has ended."""
        self.fault = fault
        self._go.release()
        assert self._there.acquire(timeout=WAIT_S)

    @classmethod
    def pause(cls) -> None:
        """Of the call whose thread this is; raises what is to go wrong."""
        call = cls._current.call
        call._there.release()
        call._go.acquire()  # for good where the play has ended, which a daemon may
        if call.fault:
            raise ConfigError("this was to fail")

    def _run(self) -> None:
        self._current.call = self
        self._go.acquire()
        try:
            if self.future.set_running_or_notify_cancel():
                self.future.set_result(self._function())
        except BaseException as error:
            self.future.set_exception(error)
        finally:
            self._there.release()


class Stage(ThreadPoolExecutor):
    """What the event loop gives to threads, under control of the test."""

    def __init__(self):
        super().__init__(1)
        self.calls: list[Call] = []

    def submit(self, fn, /, *args, **kwargs) -> Future:
        call = Call(lambda: fn(*args, **kwargs))
        self.calls.append(call)
        return call.future

    def advance(self, *, fault: bool = False) -> None:
        call = self.calls[0]
        call.advance(fault=fault)
        if call.future.done():
            self.calls.remove(call)


class AtOnce(WorkPool):
    """Work that is done where it is asked for, so that no thread but the test's stages is waited for."""

    def __init__(self):
        super().__init__("at-once", threads=1, share=1)

    async def run(self, line: str, work: Callable[[], T]) -> T:
        return work()


class World:
    """An engine and the lifecycle of its models; each change pauses wherever the real one takes time."""

    healthy = True

    def __init__(self, models: list[str]):
        self.status = dict.fromkeys(models, Status.READY)
        self.running: dict[str, list[Request]] = {}
        self.hurry = False  # whoever drains a model cuts off its requests
        self._changing: dict[str, str] = {}
        self._on_outputs: Callable[[list[Output]], None] = lambda outputs: None

    def prepare(self, request: Request) -> None: ...
    def watch(self, on_job) -> None: ...
    def drain(self, timeout_s: float) -> bool:
        return True

    def stop(self) -> None: ...
    def start(self, on_outputs: Callable[[list[Output]], None]) -> None:
        self._on_outputs = on_outputs

    def stats(self) -> UnitStats:
        return UnitStats(total_blocks=1, free_blocks=1, block_bytes=1, models=())

    def unit_stats(self) -> Mapping[str, UnitStats]:
        return {ONLY_UNIT: self.stats()}

    def submit(self, request: Request, *, prepared: bool = False) -> None:
        status = self.status.get(request.model)
        code = {None: "model_not_found", Status.READY: "", Status.FAILED: "model_failed"}.get(status, "model_loading")
        if code:
            raise RequestError(f"{request.model} is {status}", code=code, status=503)
        self.running.setdefault(request.model, []).append(request)

    def cancel(self, request_id: str) -> None:
        for requests in self.running.values():
            requests[:] = [request for request in requests if request.id != request_id]

    def end(self, model: str, finish: Finish) -> None:
        requests = self.running.pop(model, [])
        self._on_outputs([Output(request.id, 7 if finish is Finish.LENGTH else None, finish, 0.0) for request in requests])

    def fail(self, model: str) -> None:
        self.status[model] = Status.FAILED
        self.end(model, Finish.FAILED)

    def programs(self) -> Mapping[str, ProgramProgress]:
        return {}

    def close(self) -> None: ...
    def states(self) -> Mapping[str, str]:
        return {name: status.value for name, status in self.status.items()} | self._changing

    def load(self, options: ModelOptions) -> ModelSpec:
        with self._change(options.name, "loading"):
            Call.pause()
            self.status[options.name] = Status.READY
            return spec()

    def remove(self, name: str, *, timeout_s: float) -> None:
        with self._change(name, "unloading"):
            self._drain(name)
            del self.status[name]
            Call.pause()

    def sleep(self, name: str, *, timeout_s: float) -> None:
        with self._change(name, "falling asleep"):
            if self._whole(name) is Status.ASLEEP:
                return
            self._drain(name)
            self._whole(name)
            self.status[name] = Status.ASLEEP
            Call.pause()

    def wake(self, name: str) -> None:
        with self._change(name, "waking"):
            if self._whole(name) is not Status.ASLEEP:
                return
            Call.pause()
            self.status[name] = Status.READY

    @contextmanager
    def _change(self, name: str, what: str) -> Iterator[None]:
        assert not self._changing
        self._changing = {name: what}
        try:
            Call.pause()
            yield
        finally:
            self._changing = {}

    def _whole(self, name: str) -> Status:
        if self.status[name] is Status.FAILED:
            raise RequestError(f"{name} has failed", code="conflict", status=409)
        return self.status[name]

    def _drain(self, name: str) -> None:
        if self.status[name] is Status.READY:
            self.status[name] = Status.DRAINING
        while self.running.get(name) and not self.hurry:
            Call.pause()
        self.end(name, Finish.ABORT)


def options_of(name: str) -> ModelOptions:
    return ModelOptions(name=name, path=Path(__file__).parent, load_format="dummy", aliases=(name + "2",), auto_wake=AUTO_WAKE[name])


class Play:
    """A service on such a world, whose event loop runs when the test says so."""

    def __init__(self, *models: str):
        self.world, self.stage = World(list(models)), Stage()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(self.stage)
        catalog = Catalog([served(ByteTokenizer(300), name, aliases=(name + "2",)) for name in models])
        self.service = Service(self.world, catalog, UnitOptions(models=tuple(map(options_of, models))), self.world)
        self.service.pools = WorkPools(small=AtOnce(), large=AtOnce(), grammars=AtOnce())
        self.world.start(lambda outputs: self.loop.call_soon_threadsafe(self.service.outbox.add, outputs))
        assert self.service.fleet is not None
        self.fleet = self.service.fleet
        self.answers: list[tuple[str, asyncio.Task]] = []
        self.changes: list[asyncio.Task] = []

    def ask(self, model: str) -> asyncio.Task:
        task = self._start(self._answer(model))
        self.answers.append((model, task))
        return task

    def change(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task:
        task = self._start(coroutine)
        self.changes.append(task)
        return task

    def advance(self, *, fault: bool = False) -> None:
        self.stage.advance(fault=fault)
        self.settle()

    def end(self, model: str, finish: Finish = Finish.LENGTH) -> None:
        self.world.end(model, finish)
        self.settle()

    def finish(self) -> None:
        """Everything that was begun comes to its end."""
        tasks = [*self.changes, *(task for _, task in self.answers)]
        for _ in range(1000):
            for model in list(self.world.running):
                self.end(model)
            if all(task.done() for task in tasks):
                break
            self.advance() if self.stage.calls else self.settle()  # who waits for a change of a model has a turn after each that ends
        assert all(task.done() for task in tasks)
        assert [task for task in tasks if not task.cancelled() and not isinstance(task.exception(), RequestError | None)] == []

    def settle(self) -> None:
        async def ticks() -> None:
            for _ in range(25):
                await asyncio.sleep(0)

        self.loop.run_until_complete(ticks())

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task:
        task = self.loop.create_task(coroutine)
        self.settle()
        return task

    async def _answer(self, model: str) -> Finish | None:
        body = {"model": model, "prompt": [5], "max_tokens": 1}
        return (await self.service.whole(parse_completion(body, self.service.catalog, Stamp.new("text-"))))[-1].finish
