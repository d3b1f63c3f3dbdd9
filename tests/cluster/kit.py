"""What the cluster's tests share: a launcher of fake workers, and a cluster that is asked and killed at will."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path

from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.launcher import Handle, LocalHandle, NoRoom, born, running
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import arrived
from muxjax.cluster.wire.frames import UnixAddress
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.types import Output, Request, Sampling
from tests.fake_device import continuation

ROOT = Path(__file__).parents[2]
WAIT_S = 180


class FakeLauncher:
    """Starts fake workers, of which a test may kill any."""

    def __init__(self, folder: Path, orphan_s: float = 30.0):
        self.folder, self.orphan_s = folder, orphan_s
        self.started: list[str] = []
        self.is_full = False

    async def start(self, spec: UnitSpec) -> Handle:
        address, pid_file = UnixAddress(self.folder / f"{spec.name}.sock"), self.folder / f"{spec.name}.pid"
        if pid := running(pid_file):
            return LocalHandle(address, pid_file, pid, None)
        if self.is_full:
            await asyncio.sleep(0.05)
            raise NoRoom("all devices are taken")
        self.started.append(spec.name)
        command = [sys.executable, "-m", "tests.cluster.fake_worker", str(address.path), str(self.orphan_s)]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        pid_file.write_text(f"{process.pid} {born(process.pid)}\n")
        return LocalHandle(address, pid_file, process.pid, process)

    def pid(self, name: str) -> int | None:
        return running(self.folder / f"{name}.pid")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        pid = self.pid(name)
        assert pid, f"no worker of {name} runs"
        os.kill(pid, number)


def unit(name: str, *models: str, devices: tuple[int, ...] = (0,), step_timeout_s: float = 300.0) -> UnitSpec:
    options = tuple(ModelOptions(name=model, path=Path("/none"), max_num_seqs=8) for model in models)
    return UnitSpec(name=name, devices=devices, options=UnitOptions(models=options, step_timeout_s=step_timeout_s))


def in_other_bits(of: UnitSpec, model: str, **how) -> UnitSpec:
    """The unit with one of its models held otherwise."""
    models = tuple(replace(own, **how) if own.name == model else own for own in of.options.models)
    return replace(of, options=replace(of.options, models=models))


class Asked:
    """A cluster and what its requests were told."""

    def __init__(self, specs: Iterable[UnitSpec], launcher: FakeLauncher, silence_s: float = 20.0):
        self.lines: list[str] = []
        self.engine = ClusterEngine(specs, launcher, report=self.lines.append, silence_s=silence_s)
        self.told: defaultdict[str, list[Output]] = defaultdict(list)
        self.requests: dict[str, Request] = {}

    async def start(self) -> None:
        self.engine.start(self._tell)
        await asyncio.wait_for(arrived(self.engine.units.values()), WAIT_S)

    def ask(self, name: str, model: str, max_tokens: int = 20, **sampling) -> Request:
        request = Request(
            id=name,
            model=model,
            prompt=(len(name), *map(ord, name[-1:])),
            sampling=Sampling(max_tokens=max_tokens, **sampling),
            arrival_s=time.monotonic(),
        )
        request = self.requests[name] = Request(**{**_fields(request), "prompt": tuple(token % 50 for token in request.prompt)})
        self.engine.submit(request)
        return request

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                await asyncio.sleep(0.005)

    async def ended(self) -> None:
        await self.until(lambda: all(self.told[name] and self.told[name][-1].finish for name in self.requests))

    @property
    def moved(self) -> bool:
        """Some unit has lost or given up a request."""
        return sum(unit.routed for unit in self.engine.units.values()) > len(self.requests)

    def begun(self, name: str, tokens: int = 1) -> bool:
        return len(self.told[name]) >= tokens

    def tokens(self, name: str) -> list[int | None]:
        return [output.token for output in self.told[name] if output.token is not None]

    def expected(self, name: str) -> list[int]:
        request = self.requests[name]
        return continuation(request.model, request.prompt, request.sampling.max_tokens)

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.stop)

    def _tell(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.told[output.request_id].append(output)


def _fields(request: Request) -> dict:
    return {name: getattr(request, name) for name in request.__slots__}


def in_loop(test):
    """A test that is a coroutine."""

    @wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@asynccontextmanager
async def cluster(folder, *specs, **options):
    asked = Asked(specs, FakeLauncher(folder), **options)
    try:
        await asked.start()
        yield asked, asked.engine._launcher
    finally:
        await asked.stop()


def check(asked: Asked) -> None:
    for name in asked.requests:
        assert asked.tokens(name) == asked.expected(name), name
        assert [output.finish for output in asked.told[name]].count(None) == len(asked.told[name]) - 1, name
