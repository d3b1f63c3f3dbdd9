"""Runs of a load as JSON lines: a line that begins the run, one for each request that ended, and one that ends it."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from muxjax.errors import ConfigError
from muxjax.whole_file import require_writable
from muxjax.workload.metrics import Served

VERSION = 1
_BEGIN, END = b'{"muxjax_bench":', b'{"ended_s":'
"""What lines begin with that are no records of requests."""
_MOST_LINE = 2**26
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AloneFit:
    """What requests of a model take on an idle server: seconds to the first token are base_s + token_s x prompt tokens.

    Args:
      decode_s: of each output token after the first.
    """

    base_s: float
    token_s: float
    decode_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """What a run was to be.

    Args:
      label: of runs that a picture has in one line; path: of the endpoint.
      load: what was asked, its seed and its rate apart.
      rate_rps: requests a second of all models, in the mean; None where all come at once.
      rates: of each model; demanded: requests that were to be sent.
      alone: of each model that was asked alone before.
    """

    muxjax_bench: int = VERSION
    label: str
    date: str
    path: str
    load: dict[str, Any]
    seed: int
    scale: float
    rate_rps: float | None
    rates: dict[str, float]
    demanded: int
    alone: dict[str, AloneFit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request that ended; times in seconds after the run's beginning.

    Args:
      intended_s: when it was to be sent; sent_s: when it was, its connection included; first_s: its first token, None if there is none.
      end_s: the last token, or the error.
      gaps_s: between each event with tokens and the one before, after the first.
      status: HTTP's, 0 where nothing was answered; error: what was wrong, "" if nothing was.
    """

    model: str
    seed: int
    intended_s: float
    sent_s: float
    first_s: float | None
    end_s: float
    prompt_tokens: int
    output_tokens: int
    status: int
    error: str = ""
    gaps_s: tuple[float, ...] = ()

    @property
    def served(self) -> Served | None:
        """For metrics, from the time at which it was to be sent; None of one that failed."""
        if self.error or self.first_s is None:
            return None
        return Served(
            model=self.model,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            arrival_s=self.intended_s,
            first_s=self.first_s,
            end_s=self.end_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run ended.

    Args:
      ended_s: its length, from its beginning to its last answer.
      complete: all requests were sent and have ended.
      late_s: percentiles of how late the client's loop came to what was due, such as {"p50": 0.001, "p99": 0.002}.
    """

    ended_s: float
    complete: bool
    late_s: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load at one rate and seed; its end is None where the client was killed."""

    begin: Begin
    records: tuple[Record, ...]
    end: End | None

    @property
    def complete(self) -> bool:
        return self.end is not None and self.end.complete

    @property
    def duration_s(self) -> float:
        """From the beginning to the last answer that is known."""
        return self.end.ended_s if self.end else max((record.end_s for record in self.records), default=0.0)


class RecordFile:
    """A file to which runs are appended, line by line; a line that was torn by a kill is cut off first.

    Raises:
      ConfigError: it cannot be written, or holds something else.
    """

    def __init__(self, path: Path):
        require_appendable(path)
        self._path = path

    def __enter__(self) -> "RecordFile":
        self._file: BinaryIO = self._path.open("ab")
        if self._path.is_file():  # and no pipe or device
            self._file.truncate(_whole(self._path))
        return self

    def __exit__(self, *_: object) -> None:
        with _named(self._path):
            self._file.close()

    def write(self, line: Begin | Record | End) -> None:
        """Raises OSError, which names the file: there is no room for it."""
        with _named(self._path):
            self._file.write(msgspec.json.encode(line) + b"\n")
            if not isinstance(line, Record):
                self._file.flush()


def require_appendable(path: Path) -> None:
    """Raises ConfigError: runs cannot be appended to the file, or it holds something else."""
    require_writable(path, field="records", begins=[_BEGIN])


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system in the block names the file, which those of files that are open do not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_runs(path: Path) -> list[Run]:
    """All runs of a file; what a kill tore off its end is left out.

    Raises:
      ConfigError: it cannot be read, or a line is none of these; file and line are told.
    """
    runs: list[Run] = []
    begin, records = None, list[Record]()
    for number, line in _lines(path):
        where = f"{path}:{number}"
        if line.startswith(_BEGIN):
            runs += _ended(begin, records, None)
            begin, records = _decoded(line, Begin, where), []
            if begin.muxjax_bench != VERSION:
                raise ConfigError(f"{where}: muxjax_bench must be {VERSION}, the version, got {begin.muxjax_bench}", field="records")
        elif begin is None:
            raise ConfigError(f"{where}: must be the beginning of a run, as `muxjax bench --records` writes it", field="records")
        elif line.startswith(END):
            runs += _ended(begin, records, _decoded(line, End, where))
            begin = None
        else:
            records.append(_decoded(line, Record, where))
    return runs + _ended(begin, records, None)


def _ended(begin: Begin | None, records: list[Record], end: End | None) -> list[Run]:
    return [] if begin is None else [Run(begin=begin, records=tuple(records), end=end)]


def _decoded(line: bytes, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"{where}: no line of a run: {error}", field="records") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE), b""), start=1):
                if not line.endswith(b"\n"):
                    if len(line) == _MOST_LINE:
                        raise ConfigError(f"{path}:{number}: a line must be at most {_MOST_LINE} bytes", field="records")
                    return
                yield number, line
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", field="records") from error


def _whole(path: Path) -> int:
    """Bytes of the file up to the end of its last whole line."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at:
            begin = max(0, at - 2**16)
            file.seek(begin)
            found = file.read(at - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            at = begin
    return 0


def by_load(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but their seeds, together."""
    found: dict[tuple[str, float, bytes], list[Run]] = {}
    for run in runs:
        load = msgspec.json.encode(run.begin.load, order="sorted")
        found.setdefault((run.begin.label, run.begin.scale, load), []).append(run)
    return list(found.values())
