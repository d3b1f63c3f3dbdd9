"""A batch in OpenAI's JSON lines: one line is a request, the line of the same number in another file answers."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from muxjax.errors import ConfigError, RequestError, shown
from muxjax.server.http.body import read_object
from muxjax.server.openai.endpoints import ENDPOINTS
from muxjax.server.openai.errors import error_object
from muxjax.server.openai.fields import show
from muxjax.server.strict_json import encode

MOST_LINE_BYTES = 32 * 2**20
URLS = tuple(ENDPOINTS)
_MARK = b'{"id":"muxjax-'


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """One line of a batch.

    Args:
      custom_id: the client's name of the line, None where it gives none.
      body: what a request to the url would have.
      fault: what is wrong with the line; then url and body say nothing.
    """

    custom_id: str | None
    url: str = ""
    body: Mapping[str, Any]
    fault: RequestError | None = None


class Resumed(NamedTuple):
    """What is left of a batch.

    Args:
      answered: lines that the output file answers; failed: those of them with an error.
    """

    requests: Iterator[BatchRequest]
    answered: int
    failed: int


def read_requests(file: BinaryIO) -> Iterator[BatchRequest]:
    """Every line that is not blank, in order; a bad one has a fault and stops nothing."""
    seen: set[int] = set()  # hashes in place of ids: a million of them take 70 MB, however long the ids are
    for line in _lines(file):
        yield _request(line, seen)


def count_lines(file: BinaryIO) -> int:
    """Number of requests in the file."""
    return sum(1 for _ in _lines(file))


def answer_line(request: BatchRequest, request_id: str, answer: Mapping[str, Any] | Exception) -> bytes:
    """The line of the output file that answers."""
    status, body, error = 200, answer, None
    if isinstance(answer, Exception):
        status, body = getattr(answer, "status", 500), error_object(answer)
        problem: Any = body["error"]
        error = {"code": problem["code"] or "invalid_request", "message": problem["message"]}
    response = {"status_code": status, "request_id": request_id, "body": body}
    line = {"id": f"muxjax-{request_id}", "custom_id": request.custom_id, "response": response, "error": error}
    return encode(line).encode() + b"\n"


def skip_answered(path: Path, requests: Iterator[BatchRequest]) -> Resumed:
    """Takes from `requests` what the output file has answered already, and cuts off a last line of ours that was not written whole.

    The request whose answer was cut is given back as the next one.
    Raises:
      ConfigError: the file holds something else than answers to the first of these requests; nothing is changed.
    """
    answered = failed = whole = 0
    torn: BatchRequest | None = None
    with path.open("r+b") as file:
        for line in file:
            where, request = f"{path}, line {answered + 1}", next(requests, None)
            if not line.endswith(b"\n"):
                torn = _require_torn(line, request, least=0 if answered else len(_MARK), where=where)
                break
            failed += _is_error(line, request, where=where)
            answered += 1
            whole += len(line)
        file.truncate(whole)
    return Resumed(requests=requests if torn is None else itertools.chain([torn], requests), answered=answered, failed=failed)


def _require_torn(piece: bytes, request: BatchRequest | None, *, least: int, where: str) -> BatchRequest:
    """The request, if the piece begins as its answer does, in whichever place after the first `least` bytes that was cut off.

    Raises:
      ConfigError: it does not.
    """
    asks = b"" if request is None else json.dumps(request.custom_id).encode()
    begin = _MARK + b"0" * 32 + b'","custom_id":' + asks + b',"response":{"status_code":'
    head = re.sub(rb"(?<=muxjax-)[0-9a-f]{1,32}", lambda digits: b"0" * len(digits[0]), piece[: len(begin)], count=1)
    if request is None or len(piece) < least or not begin.startswith(head):
        raise _not_ours(where)
    return request


def _is_error(line: bytes, request: BatchRequest | None, *, where: str) -> bool:
    """Whether the answer to the request is an error.

    Raises:
      ConfigError: the line is no answer, or to another request.
    """
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise _not_ours(where) from problem
    if not _is_answer(answer):
        raise _not_ours(where)
    if request is None:
        raise ConfigError(f"{where} answers more than the input asks: it is the output of another file", field="output_file")
    custom_id = answer["custom_id"]
    if custom_id != request.custom_id:
        message = f"{where} answers {shown(custom_id)} where the input asks {shown(request.custom_id)}: it is the output of another file"
        raise ConfigError(message, field="output_file")
    return answer["error"] is not None


_LINE = {"id": (str,), "custom_id": (str, type(None)), "response": (dict,), "error": (dict, type(None))}
_RESPONSE = {"status_code": (int,), "request_id": (str,), "body": (dict,)}
_ERROR = {"code": (str,), "message": (str,)}


def _is_answer(value: Any) -> bool:
    """It has the whole shape of what `answer_line` writes: anybody's line may have a `custom_id`."""
    if not _has(_LINE, value) or not _has(_RESPONSE, value["response"]):
        return False
    response, error = value["response"], value["error"]
    is_error = error is not None
    return (
        value["id"] == f"muxjax-{response['request_id']}"
        and is_error == (response["status_code"] != 200)
        and (not is_error or _has(_ERROR, error))
    )


def _has(fields: Mapping[str, tuple[type, ...]], value: Any) -> bool:
    """The value has these and no others, in this order."""
    return isinstance(value, dict) and list(value) == list(fields) and all(isinstance(value[name], kinds) for name, kinds in fields.items())


def _not_ours(where: str) -> ConfigError:
    return ConfigError(f"{where} is none of the answers that run-batch writes: name another output file", field="output_file")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines that are not blank; of one that is too long its beginning, one byte over the limit."""
    while line := file.readline(MOST_LINE_BYTES + 1):
        piece = line
        while piece and not piece.endswith(b"\n"):
            piece = file.readline(2**20)
        if line.strip():
            yield line


def _request(line: bytes, seen: set[int]) -> BatchRequest:
    try:
        value = _object(line)
    except RequestError as fault:
        return BatchRequest(custom_id=None, body={}, fault=fault)
    name = value.get("custom_id")
    custom_id = name if isinstance(name, str) and name else None
    try:
        _check(value, custom_id, seen)
    except RequestError as fault:
        return BatchRequest(custom_id=custom_id, body={}, fault=fault)
    return BatchRequest(custom_id=custom_id, url=value["url"], body=value["body"])


def _object(line: bytes) -> Mapping[str, Any]:
    if len(line) > MOST_LINE_BYTES:
        raise RequestError(f"The line is longer than {MOST_LINE_BYTES} bytes.", code="request_too_large", status=413)
    return read_object(line, called="line")


def _check(value: Mapping[str, Any], custom_id: str | None, seen: set[int]) -> None:
    """Raises RequestError: with the field that is wrong."""
    if custom_id is None:
        raise _wrong("custom_id", "must be a string that is not empty", value)
    if hash(custom_id) in seen:
        raise RequestError(f"custom_id {show(custom_id)} is that of an earlier line", param="custom_id", code="duplicate_custom_id")
    seen.add(hash(custom_id))
    if value.get("method") != "POST":
        raise _wrong("method", 'must be "POST"', value)
    if value.get("url") not in URLS:
        raise _wrong("url", f"must be one of {', '.join(URLS)}", value)
    if not isinstance(value.get("body"), dict):
        raise _wrong("body", "must be an object", value)
    if value["body"].get("stream"):
        raise RequestError("body.stream must be false: an answer of a batch is one line", param="body.stream")


def _wrong(name: str, problem: str, value: Mapping[str, Any]) -> RequestError:
    return RequestError(f"{name} {problem}, got {show(value.get(name))}", param=name)
