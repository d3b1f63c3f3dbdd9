"""Responses that are made while nobody waits for them."""

import asyncio
import logging

from muxjax.errors import RequestError
from muxjax.server.generation import Generation
from muxjax.server.responses.reply import Json, ResponseReply, failure_of
from muxjax.server.responses.store import ResponseStore
from muxjax.server.service import Service

MOST_AT_ONCE = 1024
"""Responses in the making: no connection bounds how many their clients leave behind."""
_log = logging.getLogger(__name__)


class Background:
    """Makes responses, whose state the store tells.

    Args:
      store: in which each is kept from its beginning on.
    """

    def __init__(self, service: Service, store: ResponseStore):
        self._service, self._store = service, store
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[str] = set()

    def start(self, generation: Generation, reply: ResponseReply) -> Json:
        """Begins a response; its state for now.

        Raises:
          RequestError: there are too many (503).
        """
        if len(self._tasks) >= MOST_AT_ONCE:
            text = f"{MOST_AT_ONCE} responses are being made in the background, which is the most at a time."
            raise RequestError(text, param="background", code="queue_full", status=503, retry_after_s=1.0)
        response_id = generation.stamp.id
        queued = self._keep(reply, "queued")
        task = asyncio.create_task(self._make(generation, reply))
        self._tasks[response_id] = task
        task.add_done_callback(lambda _: self._forget(response_id))
        return queued

    async def cancel(self, response_id: str) -> None:
        """Returns when it is ended; one that is not in the making stays as it is."""
        task = self._tasks.get(response_id)
        if task is not None:
            if response_id not in self._ending:
                task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Cancels all."""
        for response_id in list(self._tasks):
            await self.cancel(response_id)

    async def _make(self, generation: Generation, reply: ResponseReply) -> None:
        try:
            self._keep(reply, "in_progress")
            deltas = await self._service.whole(generation)
            self._ending.add(generation.stamp.id)
            await self._service.pools.large.run(generation.stamp.line, lambda: reply.whole(deltas))
        except asyncio.CancelledError:
            self._keep(reply, "cancelled")
        except Exception as error:
            if not isinstance(error, RequestError):
                _log.exception("a response in the background failed")
            self._keep(reply, "failed", failure_of(error))

    def _forget(self, response_id: str) -> None:
        del self._tasks[response_id]
        self._ending.discard(response_id)

    def _keep(self, reply: ResponseReply, status: str, error: Json | None = None) -> Json:
        """Has the store tell that state."""
        response = reply.started(status) | {"error": error}
        self._store.put(reply.request.kept(response, ()))
        return response
