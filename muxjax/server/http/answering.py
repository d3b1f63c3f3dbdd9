"""A request's way from its body to its answer, whichever API it is of."""

import logging
from collections.abc import Sequence
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from muxjax.server.answers.reply import Asked, Endpoint, Reply
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation, Stamp
from muxjax.server.http.auth import sender_of
from muxjax.server.http.body import SMALL_BYTES, json_response, read_object, size_of, take
from muxjax.server.http.long_json import json_answer, json_body
from muxjax.server.http.sse import send_events
from muxjax.server.openai.grammar import GRAMMAR_FIELDS
from muxjax.server.service import Service

_MOST_LOGGED_FIELDS = 1000
_QUICK_ENTRIES = 1000
"""Of an answer that is made at once, in a few milliseconds."""
_QUICK_BYTES = 2**13
"""Of a body that is read at once, in a millisecond or two where it is text."""
_log = logging.getLogger(__name__)


class Answering:
    """Answers of a service; names each field that it does not know once, in the log.

    Args:
      tells_usage: every stream counts its tokens at its end.
    """

    def __init__(self, service: Service, *, tells_usage: bool):
        self._service, self._tells_usage = service, tells_usage
        self._seen: set[str] = set()

    def handler(self, endpoint: Endpoint) -> Handler:
        """The handler of an endpoint that does nothing but answer."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self.answer(request, await self.asked(request, endpoint))

        return handle

    async def asked(self, request: web.Request, endpoint: Endpoint) -> Asked:
        """What the body asks for.

        Raises:
          RequestError: the body is wrong.
        """
        stamp = Stamp.new(endpoint.id_prefix, *sender_of(request), tells_usage=self._tells_usage)
        asked = await _read(self._service, endpoint, request, stamp)
        self._log_unknown(asked.generation.unknown)
        return asked

    async def answer(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        """The answer, whole or as a stream.

        Raises:
          RequestError: it is refused, or ends in an error before anything was sent.
        """
        service, (generation, reply) = self._service, asked
        if not generation.stream:
            return await _whole(service, generation, reply)
        async with service.generate(generation) as deltas:
            return await send_events(request, reply, deltas, partial(service.pools.large.run, generation.stamp.line))

    def _log_unknown(self, names: tuple[str, ...]) -> None:
        """Logs a field once, and a bounded number of them."""
        for name in names:
            if name not in self._seen and len(self._seen) < _MOST_LOGGED_FIELDS:
                self._seen.add(name)
                _log.warning("ignoring the unknown request field %.100r", name)


async def _read(service: Service, endpoint: Endpoint, request: web.Request, stamp: Stamp) -> Asked:
    """What the body asks for, made in the pool of what it costs; here and now where that takes less than waiting for a thread."""
    pools, line, size = service.pools, stamp.line, size_of(request)
    small = size <= SMALL_BYTES
    fields = read_object(take(request)) if small else await pools.large.run(line, lambda: read_object(take(request)))
    if size <= _QUICK_BYTES and not endpoint.has_template and GRAMMAR_FIELDS.isdisjoint(fields):
        return endpoint.read(fields, service.catalog, stamp)
    pool = pools.grammars if not GRAMMAR_FIELDS.isdisjoint(fields) else pools.small if small else pools.large
    return await pool.run(line, lambda: endpoint.read(fields, service.catalog, stamp))


async def _whole(service: Service, generation: Generation, reply: Reply) -> web.Response:
    """The complete answer; a long one is made beside the event loop."""
    deltas = await service.whole(generation)
    if _entries(generation, deltas) <= _QUICK_ENTRIES:
        return json_response(reply.whole(deltas))
    return json_answer(await service.pools.large.run(generation.stamp.line, lambda: json_body(reply.whole(deltas))))


def _entries(generation: Generation, deltas: Sequence[Delta]) -> int:
    """What an answer tells of: its tokens, and the likeliest ones in the place of each, or the numbers of its embeddings."""
    of_prompt = sum(len(delta.prompt_logprobs or ()) for delta in deltas) * (2 + (generation.prompt_logprobs or generation.logprobs or 0))
    ids = generation.prompt_tokens if generation.token_ids else 0
    numbers = sum(len(delta.hidden or b"") for delta in deltas) // 4
    return numbers + len(deltas) * (1 if generation.logprobs is None else 2 + generation.logprobs) + of_prompt + ids
