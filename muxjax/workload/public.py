"""Traces that others have published, in their own formats, as requests in order of arrival; times count from the file's first line.

Requests without a prompt or without an answer are left out. All readers go through a file once, whatever its length, and raise a
ConfigError that names file, line and column for a file that cannot be read or a value that does not belong there.
"""

import csv
import heapq
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np

from muxjax.errors import ConfigError, require
from muxjax.workload.files import MOST_LINE, Line, json_lines
from muxjax.workload.trace import Arrival

MOONCAKE_BLOCK_TOKENS = 512
"""Tokens that one of Mooncake's hash_ids stands for."""


def azure(path: Path) -> Iterator[Arrival]:
    """The Azure LLM inference traces of 2023: CSV with the columns TIMESTAMP, ContextTokens, GeneratedTokens; they name no model.

    Source: github.com/Azure/AzurePublicDataset.
    """
    start_s = None
    before_s = 0.0
    for line, (when, prompt, output) in _rows(path, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        at_s = _epoch_s(line, when)
        start_s = at_s if start_s is None else start_s
        before_s = _not_before(line, "TIMESTAMP", round(at_s - start_s, 6), before_s)
        tokens = _count(line, "ContextTokens", prompt), _count(line, "GeneratedTokens", output)
        if all(tokens):
            yield Arrival(before_s, "azure", *tokens)


def burst_gpt(path: Path) -> Iterator[Arrival]:
    """BurstGPT: CSV with the columns Timestamp (seconds), Model, Request tokens, Response tokens, and two that are not read.

    Its failures are answers of no tokens, which are left out.

    Source: github.com/HPMLL/BurstGPT.
    """
    start_s = None
    before_s = 0.0
    for line, (when, model, prompt, output) in _rows(path, ("Timestamp", "Model", "Request tokens", "Response tokens")):
        at_s = _seconds(line, "Timestamp", when)
        start_s = at_s if start_s is None else start_s
        before_s = _not_before(line, "Timestamp", at_s - start_s, before_s)
        tokens = _count(line, "Request tokens", prompt), _count(line, "Response tokens", output)
        if all(tokens):
            yield Arrival(before_s, line.text_of("Model", model), *tokens)


def mooncake(path: Path, *, seed: int = 0, jitter_s: float = 3.0) -> Iterator[Arrival]:
    """Mooncake: JSON lines with timestamp (milliseconds), input_length, output_length, hash_ids (one for 512 tokens of the prompt).

    The time stamps are rounded down to steps of jitter_s, over which the requests of a step are spread evenly at random. Requests whose
    first hash is the same are a prefix group of that one block: the least that they share.

    Source: github.com/kvcache-ai/Mooncake, FAST25-release.
    """
    require(0 <= jitter_s < float("inf"), "jitter_s", jitter_s, "0 or more and finite")
    require(seed >= 0, "seed", seed, "0 or more")
    rng = np.random.default_rng(seed)
    start_ms = None
    before_ms = 0.0
    held: list[tuple[float, int, Arrival]] = []
    for line, record in json_lines(path):
        before_ms = line.number_of("timestamp", record.get("timestamp"), least=before_ms)
        start_ms = before_ms if start_ms is None else start_ms
        at_s = (before_ms - start_ms) / 1e3
        while held and held[0][0] <= at_s:
            yield heapq.heappop(held)[-1]
        prompt, output = (line.count_of(field, record.get(field), least=0) for field in ("input_length", "output_length"))
        group = _first_hash(line, record.get("hash_ids"))
        if prompt and output:
            shared = min(MOONCAKE_BLOCK_TOKENS, prompt) if group else 0
            arrival = Arrival(round(at_s + rng.random() * jitter_s, 6), "mooncake", prompt, output, group, shared)
            heapq.heappush(held, (arrival.time_s, line.number, arrival))
    yield from (arrival for *_, arrival in sorted(held))


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[Line, list[str]]]:
    """The cells of those columns, whichever others there are."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(_text_lines(path, file))
            header = [name.strip() for name in next(rows, [])]
            for name in columns:
                if header.count(name) != 1:
                    raise Line(path, 1).wrong("the header", ",".join(header), f"one with the column {name} once")
            places = [header.index(name) for name in columns]
            for row in rows:
                line = Line(path, rows.line_num)
                if row and len(row) != len(header):
                    raise line.wrong("the number of columns", len(row), f"{len(header)} as in the header")
                if row:
                    yield line, [row[place].strip() for place in places]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", field="trace") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}", field="trace") from error


def _text_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines of the file, none of them without an end."""
    for number, text in enumerate(iter(lambda: file.readline(MOST_LINE + 1), ""), start=1):
        if len(text) > MOST_LINE:
            raise Line(path, number).wrong("the line", text[:1], f"at most {MOST_LINE} letters")
        yield text


def _epoch_s(line: Line, text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise line.wrong("TIMESTAMP", text, "a time such as 2023-11-16 18:15:46.68") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _seconds(line: Line, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise line.wrong(column, text, "a finite number, 0 or more") from None
    return line.number_of(column, value)


def _not_before(line: Line, column: str, value_s: float, before_s: float) -> float:
    if value_s < before_s:
        raise line.wrong(column, f"{value_s:.6f} s after the first", f"no earlier than the line before, {before_s:.6f} s")
    return value_s


def _count(line: Line, column: str, text: str) -> int:
    return line.count_of(column, int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text, least=0)


def _first_hash(line: Line, ids: object) -> str | None:
    if not isinstance(ids, list):
        raise line.wrong("hash_ids", ids, "a list of whole numbers")
    return str(line.count_of("hash_ids", ids[0], least=0)) if ids else None
