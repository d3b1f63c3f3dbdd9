"""Traces as files: JSON lines, the first with the version.

{"muxjax_trace": 1, "about": {"workload": "agent-prefix", "seed": 0}}
{"time_s": 0.25, "model": "a", "prompt_tokens": 90, "output_tokens": 7, "prefix_group": null, "prefix_tokens": 0}
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from muxjax.errors import ConfigError, shown
from muxjax.whole_file import whole_file
from muxjax.workload.trace import Arrival

VERSION = 1
MOST_TOKENS = 2**31 - 1
MOST_LINE = 16 * 2**20
"""Bytes of a line; a device such as /dev/zero has one without an end."""
LARGEST = sys.float_info.max
_HEADER, _REQUEST = {"muxjax_trace", "about"}, set(Arrival._fields)


class Line(NamedTuple):
    """Where in a file a reader is, to say so; checks what it finds there.

    Args:
      number: from 1.
    """

    path: Path
    number: int

    def wrong(self, field: str, value: object, limit: str) -> ConfigError:
        """The error to raise: file, line, field, value and what would be right."""
        text = shown(value) if isinstance(value, list | dict) else repr(value)
        short = text if len(text) <= 80 else text[:77] + "..."
        return ConfigError(f"{self.path}:{self.number}: {field} must be {limit}, got {short}", field=field)

    def number_of(self, field: str, value: object, *, least: float = 0.0) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LARGEST:
            raise self.wrong(field, value, f"a finite number, {least:.15g} or more")
        return float(value)

    def count_of(self, field: str, value: object, *, least: int = 1) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_TOKENS:
            raise self.wrong(field, value, f"a whole number from {least} to {MOST_TOKENS}")
        return value

    def text_of(self, field: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self.wrong(field, value, "a text that is not empty")
        return value


def write(path: Path, trace: Iterable[Arrival], about: Mapping[str, Any] | None = None) -> None:
    """Writes requests in order of arrival, one at a time, and about into the first line; all of it or, after an error, nothing.

    Raises:
      ConfigError: a request that read would refuse, or a place that cannot be written to.
    """
    with whole_file(path, field="trace") as file:
        file.write(json.dumps({"muxjax_trace": VERSION, "about": dict(about or {})}, allow_nan=False) + "\n")
        before_s = 0.0
        for number, arrival in enumerate(trace, start=2):
            before_s = _arrival(Line(path, number), arrival._asdict(), before_s).time_s
            file.write(json.dumps(arrival._asdict()) + "\n")


def read(path: Path) -> Iterator[Arrival]:
    """The requests of a trace, one at a time, so that its length does not matter.

    Raises:
      ConfigError: no such file, or another version; a line that is not such a request, or is earlier than the one before.
    """
    lines = json_lines(path)
    _check_header(path, lines)
    before_s = 0.0
    for line, record in lines:
        arrival = _arrival(line, record, before_s)
        before_s = arrival.time_s
        yield arrival


def json_lines(path: Path) -> Iterator[tuple[Line, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its place; blank lines are passed over.

    Raises:
      ConfigError: the file cannot be read, or a line is no JSON object.
    """
    try:
        with path.open("rb") as file:
            for number, text in enumerate(iter(lambda: file.readline(MOST_LINE + 1), b""), start=1):
                if len(text) > MOST_LINE:
                    raise Line(path, number).wrong("the line", text[:1], f"at most {MOST_LINE} bytes")
                if not text.isspace():
                    line = Line(path, number)
                    yield line, _object(line, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", field="trace") from error


def _object(line: Line, text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise line.wrong("the line", text, "a JSON object") from None
    if not isinstance(record, dict):
        raise line.wrong("the line", record, "a JSON object")
    return record


def _check_header(path: Path, lines: Iterator[tuple[Line, dict[str, Any]]]) -> None:
    line, header = next(lines, (Line(path, 1), {}))
    version, about = header.get("muxjax_trace"), header.get("about", {})
    if version != VERSION or isinstance(version, bool):
        raise line.wrong("muxjax_trace", version, f"{VERSION}, the version, in the first line")
    _refuse_unknown(line, header, _HEADER)
    if not isinstance(about, dict):
        raise line.wrong("about", about, "an object")


def _arrival(line: Line, record: dict[str, Any], before_s: float) -> Arrival:
    _refuse_unknown(line, record, _REQUEST)
    prompt, group = line.count_of("prompt_tokens", record.get("prompt_tokens")), record.get("prefix_group")
    shared = line.count_of("prefix_tokens", record.get("prefix_tokens", 0), least=0)
    if shared > prompt:
        raise line.wrong("prefix_tokens", shared, f"at most the prompt's {prompt}")
    if shared and group is None:
        raise line.wrong("prefix_tokens", shared, "0 without a prefix_group")
    return Arrival(
        time_s=line.number_of("time_s", record.get("time_s"), least=before_s),
        model=line.text_of("model", record.get("model")),
        prompt_tokens=prompt,
        output_tokens=line.count_of("output_tokens", record.get("output_tokens")),
        prefix_group=None if group is None else line.text_of("prefix_group", group),
        prefix_tokens=shared,
    )


def _refuse_unknown(line: Line, record: dict[str, Any], known: set[str]) -> None:
    for field in record:
        if field not in known:
            raise line.wrong("the fields", field, f"among {', '.join(sorted(known))}")
