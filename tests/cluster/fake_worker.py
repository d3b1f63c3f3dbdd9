"""A worker whose unit runs on the device of dictionaries, in a process that can really be killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from muxjax.cache.layout import CacheLayout
from muxjax.cluster.wire.frames import UnixAddress
from muxjax.cluster.worker import Tell, Worker
from muxjax.engine.device_control import Lifecycle
from muxjax.engine.engine import Engine
from muxjax.engine.executor import Done
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.unit import Unit
from muxjax.errors import ConfigError, RequestError
from muxjax.model_spec import ModelSpec
from muxjax.scheduler.policies import by_name
from tests.fake_device import FakeClock, FakeDevice
from tests.fakes import FakeLifecycle
from tests.server.kit import spec

LAYOUT = CacheLayout(windows=(None,), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512)
DEVICE = "FAKE_DEVICE"
"""Variable that says what the device is called."""
MAX_TOKENS, STEP_S, SLOW_STEP_S = 400, 0.004, 0.2


class RealTime(FakeClock):
    """Nobody moves it."""

    def now_s(self) -> float:
        return time.monotonic()

    def advance_to(self, at_s: float) -> None:
        pass


class SlowDevice(FakeDevice):
    """Its steps take their time, and much more while the file "slow" is beside its socket; while "stuck" is, they take for ever."""

    def __init__(self, layouts: dict[str, CacheLayout], folder: Path):
        super().__init__(layouts, RealTime(), step_s=0.0)
        self._slow, self._stuck = folder / "slow", folder / "stuck"

    def collect(self, *, wait: bool) -> list[Done]:
        time.sleep(SLOW_STEP_S if self._slow.exists() else STEP_S)
        while self._stuck.exists():
            time.sleep(STEP_S)
        return super().collect(wait=wait)


class Models(FakeLifecycle):
    """Models that come and go with the unit's."""

    def __init__(self, engine: Engine, unit: Unit, layouts: dict[str, CacheLayout], models: list[str]):
        super().__init__(models)
        self._engine, self._unit, self._layouts = engine, unit, layouts

    def load(self, options: ModelOptions) -> ModelSpec:
        if options.name == "large" and len(self._states) > 1:
            raise ConfigError("there is no room for large beside two others")
        if options.name in self._states:
            raise RequestError(f"{options.name} is there already", status=409)
        self._layouts[options.name] = LAYOUT
        self._engine.do(lambda: self._unit.add(config(options)))
        self._states[options.name] = "ready"
        return spec()

    def remove(self, name: str, *, timeout_s: float) -> None:
        self._engine.drain_model(name, timeout_s)
        self._engine.do(lambda: self._unit.remove(name))
        del self._states[name]


class Built(NamedTuple):
    device: str
    engine: Engine
    lifecycle: Lifecycle


def config(model: ModelOptions) -> ModelConfig:
    return ModelConfig(name=model.name, layout=LAYOUT, slots=model.max_num_seqs, max_tokens=MAX_TOKENS, vocab=50, rate=model.rate)


def build(folder: Path) -> Callable[[UnitOptions, Tell, Tell], Built]:
    """A model called "never" cannot be built, "mended" where the file "mended" is beside the socket; "broken" ends the process, and "large"
    has room beside one other alone."""

    def built(options: UnitOptions, report: Tell, doing: Tell) -> Built:
        names = [model.name for model in options.models]
        if "never" in names:
            raise ConfigError("never can be built")
        if "mended" in names and not (folder / "mended").exists():
            raise ConfigError("mended cannot be built yet")
        if "broken" in names:
            os._exit(7)
        layouts = dict.fromkeys(names, LAYOUT)
        unit = Unit(map(config, options.models), total_blocks=2000, token_budget=64, max_rows=8)
        engine = Engine(unit, by_name("adbs"), SlowDevice(layouts, folder), step_timeout_s=options.step_timeout_s)
        report(f"serves {', '.join(names)}")
        return Built(os.environ.get(DEVICE, "cpu"), engine, Models(engine, unit, layouts, names))

    return built


if __name__ == "__main__":
    path = Path(sys.argv[1])
    child = subprocess.Popen(["sleep", "60"])
    (path.parent / "child").write_text(str(child.pid))
    sys.exit(Worker(build(path.parent), orphan_s=float(sys.argv[2])).run(UnixAddress(path)))
