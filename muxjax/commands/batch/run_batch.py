"""`muxjax run-batch`: a file of requests to any of the models, answered line by line, without HTTP."""

import asyncio
import contextlib
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from muxjax.commands.batch.answers import Answer, answer_request, in_order
from muxjax.commands.batch.file import BatchRequest, count_lines, read_requests, skip_answered
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.progress import followed
from muxjax.server.build import build_service
from muxjax.server.service import Service
from muxjax.units import show_table
from muxjax.whole_file import require_writable

PIPE = "-"
MOST_OPEN = 2**20
_AHEAD = 2
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of one run.

    Args:
      input_file, output_file: "-" for standard input and output.
      resume: go on after the answers that the output file holds already.
      max_inflight: lines being answered at a time; None for twice the sequences that all models take at once.
    Raises:
      ConfigError: a value that cannot be.
    """

    input_file: str
    output_file: str
    resume: bool = False
    max_inflight: int | None = None

    def __post_init__(self):
        require(self.max_inflight is None or 1 <= self.max_inflight <= MOST_OPEN, "max_inflight", self.max_inflight, f"1 to {MOST_OPEN}")
        require(not (self.resume and self.output_file == PIPE), "resume", self.output_file, "of an output file, not of a pipe")


def run(unit: UnitOptions, options: Options) -> int:
    """Answers every line that is not answered yet; 1 if any line's answer is an error.

    Raises:
      ConfigError: a file cannot be read or written, or the output file is no beginning of what it would be.
      MuxError: the models cannot be served, or no longer.
    """
    with opened(options) as batch:
        if batch.is_done:  # before models are loaded in vain
            _to_stderr(f"nothing is left to answer: {batch.answered} lines, {batch.failed} failed")
            return 1 if batch.failed else 0
        if Path(options.output_file).is_file():
            require_writable(Path(options.output_file), field="output_file")
        service = build_service(unit, report=_to_stderr)
        most_open = options.max_inflight or _AHEAD * sum(model.max_num_seqs for model in unit.models)
        return run_through(service, batch, most_open=most_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The two files, at the first line without an answer.

    Args:
      lines: in all, None where nobody knows.
      answered, failed: before this run.
    """

    requests: Iterator[BatchRequest]
    output: BinaryIO
    lines: int | None
    answered: int = 0
    failed: int = 0

    @property
    def is_done(self) -> bool:
        """No line is without an answer; of a pipe nobody knows that yet."""
        return self.answered == self.lines


@contextlib.contextmanager
def opened(options: Options) -> Iterator[Batch]:
    """Raises ConfigError: a file cannot be read or written, or the output file is there and is not to be resumed."""
    with contextlib.ExitStack() as files:
        source = sys.stdin.buffer if options.input_file == PIPE else files.enter_context(_open(options.input_file, "rb", "input_file"))
        lines = None
        if source.seekable():
            lines = count_lines(source)
            source.seek(0)
        requests = read_requests(source)
        if options.output_file == PIPE:
            yield Batch(requests=requests, output=sys.stdout.buffer, lines=lines)
            return
        output = files.enter_context(_appended(options.output_file))
        if os.path.sameopenfile(source.fileno(), output.fileno()):
            raise ConfigError(f"{options.output_file} is the input file: name another output file", field="output_file")
        if not stat.S_ISREG(os.fstat(output.fileno()).st_mode):
            require(not options.resume, "resume", options.output_file, "of an output file, not of a pipe or device")
            yield Batch(requests=requests, output=output, lines=lines)
            return
        if output.tell() and not options.resume:
            raise ConfigError(f"{options.output_file} is not empty: --resume goes on after its answers", field="output_file")
        resumed = skip_answered(Path(options.output_file), requests)
        yield Batch(requests=resumed.requests, output=output, lines=lines, answered=resumed.answered, failed=resumed.failed)


@contextlib.contextmanager
def _appended(path: str) -> Iterator[BinaryIO]:
    """The output file, to be written to at its end; what was not written is not tried again when an error closes it."""
    output = _open(path, "ab", "output_file")
    try:
        yield output
    except BaseException:
        with contextlib.suppress(OSError):
            output.close()
        raise
    output.close()


def _open(path: str, mode: str, field: str) -> BinaryIO:
    try:
        return cast(BinaryIO, open(path, mode))
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}", field=field) from error
    except ValueError as error:  # a NUL
        raise ConfigError(f"{path!r} cannot be opened: {error}", field=field) from error


def run_through(service: Service, batch: Batch, *, most_open: int) -> int:
    """Answers what is left with a service that is not running yet; 1 if any line failed, 130 after Ctrl-C."""
    report = _Report(batch)

    async def answer_all() -> None:
        with followed("answering", " lines", batch.lines, begun=batch.answered, leave=True) as one_more:

            def write(answer: Answer) -> None:
                report.write(answer)
                one_more()

            async with service.running():
                await in_order(batch.requests, lambda request: answer_request(service, request), write, most_open=most_open)

    try:
        asyncio.run(answer_all())
    except KeyboardInterrupt:
        _to_stderr(f"interrupted after {report.lines} lines; --resume goes on from there")
        return _INTERRUPTED
    finally:
        report.close()
    return 1 if report.failed else 0


class _Report:
    """Writes answers, and tells what each model did."""

    def __init__(self, batch: Batch):
        self.lines, self.failed = batch.answered, batch.failed
        self._output = batch.output
        self._begin_s = time.monotonic()
        self._requests: Counter[str] = Counter()
        self._prompt_tokens: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    def write(self, answer: Answer) -> None:
        """A line is handed to the system at once, so that a kill costs at most the one being written."""
        try:
            self._output.write(answer.line)
            self._output.flush()
        except OSError as error:
            raise ConfigError(f"the output file cannot be written: {error.strerror}", field="output_file") from error
        self.lines += 1
        self.failed += answer.failed
        self._requests[answer.model] += 1
        self._prompt_tokens[answer.model] += answer.prompt_tokens
        self._tokens[answer.model] += answer.completion_tokens

    def close(self) -> None:
        seconds = time.monotonic() - self._begin_s
        rows = [("model", "lines", "prompt tokens", "tokens", "tokens/s")]
        for name, lines in sorted(self._requests.items()):
            tokens = self._tokens[name]
            rows.append((name or "(failed)", str(lines), str(self._prompt_tokens[name]), str(tokens), f"{tokens / seconds:.1f}"))
        for line in show_table(rows):
            _to_stderr(line)
        _to_stderr(f"{self.lines} lines, {self.failed} failed")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
