"""Programs that are built beside the engine, by devices that are told how long it takes."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from muxjax.launch.program_builder import ProgramBuilder


class Devices:
    """One program is missing, whose first run ends when it may."""

    def __init__(self):
        self.begun, self.may_end, self.closed = threading.Event(), threading.Event(), threading.Event()

    def build(self) -> Iterator[tuple[str, int]]:
        yield "m", 0

    def add_shape(self, model: str, shape: int) -> None:
        pass

    def ready(self, model: str) -> tuple[int, ...]:
        return (0,)

    def warm(self, model: str, shape: int) -> Callable[[], object]:
        return lambda: (self.begun.set(), self.may_end.wait())

    def resume_building(self) -> None:
        pass

    def close(self) -> None:
        self.closed.set()


def test_who_closes_it_waits_for_the_first_run_that_has_begun():
    """Or its thread would come back from the device when Python has ended, and take the process down by SIGABRT."""
    devices: Any = Devices()
    engine: Any = SimpleNamespace(watch=lambda note: None, do=lambda action: action())
    builder = ProgramBuilder(engine, devices)
    builder.start()
    devices.begun.wait()
    closing = threading.Thread(target=builder.close)
    closing.start()
    devices.closed.wait()
    closing.join(0.1)
    waited = closing.is_alive()
    devices.may_end.set()
    closing.join()
    assert waited


def test_who_closes_it_does_not_wait_for_models_that_come_and_go():
    devices: Any = Devices()
    builder = ProgramBuilder(SimpleNamespace(watch=lambda note: None), devices)  # pyright: ignore[reportArgumentType]
    devices.stop_building = lambda: None
    with builder.paused():
        builder.close()
