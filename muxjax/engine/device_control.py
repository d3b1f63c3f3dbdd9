"""Control of models and memory on the devices: load, remove, offload, resize. Steps go through `executor.Executor`."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from muxjax.engine.options import ModelOptions
from muxjax.model_spec import ModelSpec
from muxjax.types import Adapter


class ProgramProgress(NamedTuple):
    """Shapes of a model's steps: so many are ready, of so many in all; and which cannot be compiled, with the reason."""

    ready: int
    all: int
    failed: tuple[str, ...] = ()


class Loaded(NamedTuple):
    """A model that has come to the devices.

    Args:
      lane: that its steps will run on.
      step_sizes: tokens that those with prompts are padded to, ascending.
      sm_shares: multiprocessors that they may keep to, ascending, all of them last; none where they always use all.
    """

    spec: ModelSpec
    lane: int = 0
    step_sizes: tuple[int, ...] = ()
    sm_shares: tuple[int, ...] = ()


class DeviceControl(Protocol):
    """Models of a unit on its devices, and the arena beside them; one caller at a time.

    Arguments and results are values, so that a request can be a message to another process. There are two kinds of methods. Those that
    take long are called from a thread of their own while steps run on, and change nothing that a step uses. Those *between two turns* are
    quick, and are called where no step is launched (in the engine's thread, `Engine.do`).
    """

    def load_bytes(self, options: ModelOptions) -> int:
        """Memory of each device that a model will take, nearly, when it is loaded.

        Raises:
          ConfigError: its configuration cannot be read, or not be served on these devices.
        """
        ...

    def onload_bytes(self, model: str) -> int:
        """Memory of each device that the weights of an offloaded model will take again."""
        ...

    def arena_blocks(self, needed_bytes: int = 0) -> int:
        """Head blocks of the largest arena that leaves so many bytes of each device to others.

        Raises:
          ConfigError: none would be large enough for the models there are, and their steps.
        """
        ...

    def load(self, options: ModelOptions) -> Loaded:
        """Reads a model's weights and makes the programs that hold every step; takes long. Whoever loads attaches, or removes.

        Raises:
          ConfigError, CheckpointError: it cannot be served, or there is no room for it.
        """
        ...

    def onload(self, model: str) -> None:
        """Brings an offloaded model's weights back, and programs that another arena has made stale; takes long. Then as after `load`.

        Raises:
          ConfigError: there is no room for it; it stays offloaded.
        """
        ...

    def offload(self, model: str) -> None:
        """Moves a model's weights to the host's memory; takes long. None of its steps is in flight, and none is launched any more."""
        ...

    def hold_adapter(self, model: str, adapter: Adapter) -> object:
        """An adapter of a model that is attached, which stays in the host's memory as long as somebody has what is returned; from any
        thread. Takes long where it is not there yet.

        Raises:
          ConfigError, CheckpointError: it cannot be read.
        """
        ...

    def attach(self, model: str) -> None:
        """Steps of a model that was loaded may be launched from now on; between two turns."""
        ...

    def remove(self, model: str) -> None:
        """Frees what there is of a model, on the devices and on the host; between two turns. None of its steps is in flight."""
        ...

    def ready(self, model: str) -> tuple[int, ...]:
        """Shapes of a model's steps that are ready, by their numbers."""
        ...

    def warm(self, model: str, shape: int) -> Callable[[], object]:
        """Launches the programs of a shape that is ready, with nothing to do, so that no request waits for their first run; between two
        turns. What it returns waits for their end, which may be behind long steps of others: from any thread but that of the turns."""
        ...

    def build(self) -> Iterator[tuple[str, int]]:
        """Makes the programs that are missing, of all models that are not offloaded, most useful first; takes very long.

        Yields model and number of each shape as its programs are there, for `add_shape`. One that cannot be made is left out, and told
        by `progress`. Whoever changes models or arena stops it first.
        """
        ...

    def stop_building(self) -> None:
        """Has `build` end soon; from any thread."""
        ...

    def pause_building(self) -> None:
        """Has `build` compile nothing until `resume_building`; what is half compiled stays so. From any thread."""
        ...

    def resume_building(self) -> None:
        """Lets `build` go on; from any thread."""
        ...

    def close(self) -> None:
        """Ends whatever compiles beside the engine, which is about to stop; from any thread."""
        ...

    def add_shape(self, model: str, shape: int) -> None:
        """Steps may have a shape from now on that `build` has yielded; between two turns."""
        ...

    def progress(self) -> Mapping[str, ProgramProgress]:
        """How far each model's programs are; from any thread."""
        ...

    def prepare_arena(self, total_blocks: int) -> None:
        """Makes the programs that hold every step for an arena of that size, of all models that are not offloaded; takes long."""
        ...

    def resize(self, total_blocks: int) -> bool:
        """An empty arena of the size that was prepared, in place of the one there is; between two turns. Steps in flight are dropped.

        False where its memory is not to be had in one piece: then the arena is empty, and has its old size.
        """
        ...


class Lifecycle(Protocol):
    """The lifecycle of an engine's models: what changes them, each in its time; see `launch.lifecycle.ModelLifecycle`."""

    def states(self) -> Mapping[str, str]: ...
    def programs(self) -> Mapping[str, ProgramProgress]: ...
    def load(self, options: ModelOptions) -> ModelSpec: ...
    def remove(self, name: str, *, timeout_s: float) -> None: ...
    def sleep(self, name: str, *, timeout_s: float) -> None: ...
    def wake(self, name: str) -> None: ...
