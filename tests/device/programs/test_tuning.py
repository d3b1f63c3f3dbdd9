"""Kernels are tried for the steps that may be tuned, and only where their choices are not there."""

from dataclasses import dataclass, field, replace

import pytest

from muxjax.buckets import BatchShape
from muxjax.cache.layout import CacheLayout
from muxjax.device.programs.sources import RecountSource, Source, StepSource
from muxjax.device.programs.tuning import tune
from muxjax.models.sharding import Devices
from muxjax.specs.published import BY_NAME

SPEC = BY_NAME["llama-3.2-1b"]


def step(rows: int, *, tuned: bool = True) -> StepSource:
    layout = CacheLayout.of(SPEC, element_bytes=2)
    sizes = {"slots": 8, "columns": 4, "blocks": 64, "block_elements": 8192, "kv_dtype": "bfloat16", "tp": 1}
    return StepSource(spec=SPEC, layout=layout, shape=BatchShape(columns=4, tokens=rows, decode_rows=rows), tuned=tuned, **sizes)


@dataclass(frozen=True)
class FakeCompiler:
    """Programs are their names; so many rows have been tuned, and others are when they are compiled by one that tunes."""

    known: set[int]
    asked: list[int] = field(default_factory=list)
    tunes: bool = False
    devices: Devices = Devices.first(1)  # noqa: RUF009  (a value)

    def compile_tuned(self, source: StepSource) -> str | None:
        assert not self.tunes
        return repr(source) if source.shape.rows in self.known else None

    def compile(self, source: StepSource) -> tuple[StepSource, str]:
        assert self.tunes
        self.asked.append(source.shape.rows)
        return source, repr(source)


class FakeStore:
    def __init__(self, *sources: Source):
        self.kept = {repr(source): "before" for source in sources}

    def kept_bytes(self, source: str) -> int | None:
        return 1 if source in self.kept else None

    def keep(self, source: str, program: str) -> None:
        self.kept[source] = program


@pytest.fixture
def compiler() -> FakeCompiler:
    return FakeCompiler(known={16})


def test_kernels_are_tried_for_what_may_be_tuned_and_is_not(compiler):
    sources = [step(8), RecountSource(vocab=8, slots=8, tp=1), step(16), step(512, tuned=False), step(24), step(32)]
    store = FakeStore(step(24), replace(step(32), tuned=False))

    told = [(source.shape.rows, tried) for source, tried in tune(sources, compiler, store)]

    assert told == [(8, True), (16, False), (24, False), (32, True)]
    assert compiler.asked == [8, 32]
    assert {source for source in sources if store.kept.get(repr(source)) == repr(source)} == {step(8), step(16), step(32)}


def test_nothing_is_tried_before_it_is_asked_for(compiler):
    tuning = tune([step(8), step(32)], compiler, FakeStore())

    next(tuning)
    tuning.close()
    assert compiler.asked == [8]
