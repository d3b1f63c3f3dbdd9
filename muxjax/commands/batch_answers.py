"""The lines of a batch through a service, many at once, their answers in order."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from muxjax.commands.batch_file import Ask, answer_line
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
    """Of one line.

    Args:
      line: for the output file.
      model: that answered, "" where none did.
    """

    line: bytes
    failed: bool
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


async def in_order(asks: Iterator[A], answer: Callable[[A], Awaitable[B]], write: Callable[[B], Any], *, most_open: int) -> None:
    """Gives each of `asks` to `answer`, at most so many at a time, and what comes of them to `write`, one after the other in order.

    However many there are, about WINDOW * most_open of them are held at a time. `asks` may wait for a slow pipe.
    Raises:
      Exception: the first that any of the three raised; then nothing more is written.
    """
    gate = asyncio.Semaphore(most_open)
    window: asyncio.Queue[asyncio.Task[B] | None] = asyncio.Queue(WINDOW * most_open)

    async def answered(ask: A) -> B:
        async with gate:
            return await answer(ask)

    async def write_all() -> None:
        while (task := await window.get()) is not None:
            write(await task)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(write_all())
            while (ask := await asyncio.to_thread(next, asks, None)) is not None:
                await window.put(group.create_task(answered(ask)))
            await window.put(None)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def answer_ask(service: Service, ask: Ask) -> Answer:
    """What is wrong with a line, or with its answer, is its answer.

    Raises:
      MuxError: the service has ended, so that no line can be answered.
    """
    request_id = uuid.uuid4().hex
    try:
        body = await _body(service, ask)
    except Exception as error:
        if ask.fault is None and not service.ready:
            raise MuxError(f"the engine ended before line {ask.custom_id!r} was answered; --resume goes on from there") from error
        if not isinstance(error, RequestError):
            _log.exception("line %.100r failed", ask.custom_id)
        return Answer(line=answer_line(ask, request_id, error), failed=True)
    usage = body["usage"]
    return Answer(
        line=answer_line(ask, request_id, body),
        failed=False,
        model=body["model"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


async def _body(service: Service, ask: Ask) -> Mapping[str, Any]:
    """The same JSON that a client would have got over HTTP; waits while the model takes no more requests."""
    if ask.fault is not None:
        raise ask.fault
    while True:
        try:
            return await _attempt(service, ask)
        except RequestError as error:
            if error.retry_after_s is None:
                raise
            await asyncio.sleep(error.retry_after_s)


async def _attempt(service: Service, ask: Ask) -> Mapping[str, Any]:
    endpoint = ENDPOINTS[ask.url]
    generation = await asyncio.to_thread(endpoint.parse, ask.body, service.catalog, Stamp.new(endpoint.id_prefix))
    return endpoint.reply(generation).whole(await service.whole(generation))
