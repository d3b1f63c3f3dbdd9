"""The lines of a batch through a service, many at once, their answers in order."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from muxjax.commands.batch.file import BatchRequest, answer_line
from muxjax.errors import MuxError, RequestError
from muxjax.server.generation import Stamp
from muxjax.server.openai.endpoints import ENDPOINTS
from muxjax.server.service import Service

WINDOW = 4
"""Lines that are held, in times of those being answered: so far may others run ahead of a slow one."""

_log = logging.getLogger(__name__)
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of one line.

    Args:
      line: the one of the output file.
      model: the one that answered, "" where none did.
    """

    line: bytes
    failed: bool
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


async def in_order(requests: Iterator[A], answer: Callable[[A], Awaitable[B]], write: Callable[[B], Any], *, most_open: int) -> None:
    """Gives each of `requests` to `answer`, at most so many at a time, and what comes of them to `write`, one after the other in order.

    However many there are, about WINDOW * most_open of them are held at a time. `requests` may wait for a slow pipe.
    Raises:
      Exception: the first that any of the three raised; then nothing more is written.
    """
    gate = asyncio.Semaphore(most_open)
    window: asyncio.Queue[asyncio.Task[B] | None] = asyncio.Queue(WINDOW * most_open)

    async def answered(request: A) -> B:
        async with gate:
            return await answer(request)

    async def write_all() -> None:
        while (task := await window.get()) is not None:
            write(await task)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(write_all())
            while (request := await asyncio.to_thread(next, requests, None)) is not None:
                await window.put(group.create_task(answered(request)))
            await window.put(None)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def answer_request(service: Service, request: BatchRequest) -> Answer:
    """The answer of a line, which is an error where the line or its answer is wrong.

    Raises:
      MuxError: the service has ended, so that no line can be answered.
    """
    request_id = uuid.uuid4().hex
    try:
        body = await _body(service, request)
    except Exception as error:
        if request.fault is None and not service.ready:
            raise MuxError(f"the engine ended before line {request.custom_id!r} was answered; --resume goes on from there") from error
        if not isinstance(error, RequestError):
            _log.exception("line %.100r failed", request.custom_id)
        return Answer(line=answer_line(request, request_id, error), failed=True)
    usage = body["usage"]
    return Answer(
        line=answer_line(request, request_id, body),
        failed=False,
        model=body["model"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage.get("completion_tokens", 0),  # embeddings have none
    )


async def _body(service: Service, request: BatchRequest) -> Mapping[str, Any]:
    """The JSON that a client would have got over HTTP; waits while the model takes no more requests."""
    if request.fault is not None:
        raise request.fault
    while True:
        try:
            return await _attempt(service, request)
        except RequestError as error:
            if error.retry_after_s is None:
                raise
            await asyncio.sleep(error.retry_after_s)


async def _attempt(service: Service, request: BatchRequest) -> Mapping[str, Any]:
    endpoint = ENDPOINTS[request.url]
    asked = await asyncio.to_thread(endpoint.read, request.body, service.catalog, Stamp.new(endpoint.id_prefix))
    return asked.reply.whole(await service.whole(asked.generation))
