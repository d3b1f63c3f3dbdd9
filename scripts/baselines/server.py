"""An engine behind OpenAI's completions API: prompts of tokens, greedy answers, streamed or whole.

A streamed token's text is its number, so that no tokenizer takes time; a whole answer's is what it is given for. The engine has a thread
of its own, which hands all tokens of a step to the event loop at once; a stream that is behind gets several tokens in one event.
"""

import asyncio
import contextlib
import itertools
import json
import queue
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import web

from scripts.baselines.engine import Engine, Made, Request, check

_MOST_BODY_BYTES = 64 * 2**20
Take = Callable[[Sequence[int], bool], object]
"""Of tokens, and whether there are no more."""
Text = Callable[[Sequence[int], Sequence[int]], str]
"""Of an answer's tokens, which follow those of its prompt."""
_SWITCH_S = 2e-4
"""How soon the engine's thread gets its turn from the event loop's: it has a step to launch."""


class Stream:
    """The tokens of one request as they come; all of it happens in the event loop."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._last = False
        self._error: Exception | None = None
        self._came = asyncio.Event()
        self._take: Take | None = None

    def put(self, token: int, last: bool) -> None:
        self._last = last
        if self._take is not None:
            self._take([token], last)
        else:
            self._tokens.append(token)
        if last or self._take is None:
            self._came.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._came.set()

    async def some(self) -> list[int]:
        """Those that have come since the last time, at least one; none where there are no more.

        Raises:
          Exception: what the engine ended by.
        """
        while not self._tokens and not self._last:
            await self._next()
        tokens, self._tokens = self._tokens, []
        return tokens

    async def all(self) -> list[int]:
        """Once the last one has come.

        Raises:
          Exception: what the engine ended by.
        """
        while not self._last:
            await self._next()
        return self._tokens

    async def relay(self, take: "Take") -> None:
        """All that are left, each handed on where it is put, without a task that wakes for it.

        Raises:
          Exception: what the engine ended by.
        """
        if self._tokens:
            take(self._tokens, self._last)
        self._take = take
        while not self._last:
            await self._next()

    async def _next(self) -> None:
        await self._came.wait()
        self._came.clear()
        if self._error is not None:
            raise self._error


class EngineThread:
    """An engine in a thread of its own.

    Args:
      failed: called in the event loop when the engine has failed; all requests have then.
    """

    def __init__(self, engine: Engine, *, failed: Callable[[], object]):
        self._engine, self._failed = engine, failed
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._streams: dict[Request, Stream] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def answering(self, request: Request):
        """A stream of the request's tokens; whoever leaves before its end cancels it.

        Raises:
          ValueError: the engine could never answer it.
        """
        check(self._engine, request)
        stream = self._streams[request] = Stream()
        self._inbox.put(lambda: self._engine.submit(request))
        try:
            yield stream
        finally:
            if self._streams.pop(request, None):
                self._inbox.put(lambda: self._engine.cancel(request))

    def stop(self) -> None:
        """Ends the thread after the step that it is at."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_in():
                if made := self._engine.step():
                    self._loop.call_soon_threadsafe(self._hand_on, made)
        except Exception as error:  # each request ends by it
            self._loop.call_soon_threadsafe(self._fail, error)
        finally:
            self._engine.close()

    def _take_in(self) -> bool:
        """Does what the event loop asks; waits for it while there is nothing else to do. False at the end."""
        while not self._engine.busy or not self._inbox.empty():
            ask = self._inbox.get()
            if ask is None:
                return False
            ask()
        return True

    def _hand_on(self, made: Sequence[Made]) -> None:
        for request, token, last in made:
            stream = self._streams.pop(request, None) if last else self._streams.get(request)
            if stream is not None:
                stream.put(token, last)

    def _fail(self, error: Exception) -> None:
        for stream in self._streams.values():
            stream.fail(error)
        self._failed()


def numbers(prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """The text of a model without a tokenizer."""
    return "".join(f" {token}" for token in tokens)


class Api:
    """Handlers of one model's requests.

    Args:
      stop: tokens that end an answer unless the client ignores them.
      text: of whole answers.
    """

    def __init__(self, thread: EngineThread, name: str, *, stop: frozenset[int], text: Text = numbers):
        self._thread, self._name, self._stop, self._text = thread, name, stop, text
        self._ids = itertools.count()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MOST_BODY_BYTES)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self._name, "object": "model", "created": 0, "owned_by": "baseline"}]})

    async def _completions(self, http: web.Request) -> web.StreamResponse:
        try:
            body = await http.json()
            request = read_request(body, self._stop)
            answer = self._thread.answering(request)
            with answer as stream:
                frame = Frame(f"cmpl-{next(self._ids)}", self._name)
                if body.get("stream"):
                    return await _streamed(http, body, request, stream, frame)
                return await _whole(request, stream, frame, self._text)
        except (ValueError, TypeError) as error:
            return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)


class Frame:
    """JSON of one answer, of which only text and reason change."""

    def __init__(self, name: str, model: str):
        self._base = {"id": name, "object": "text_completion", "created": int(time.time()), "model": model}
        self._head = json.dumps(self._base, separators=(",", ":"))[:-1]

    def event(self, tokens: Sequence[int], reason: str | None) -> bytes:
        """Of tokens that came; without json.dumps, which takes longer than all else."""
        text = numbers((), tokens)
        told = f'"{reason}"' if reason else "null"
        return f'data: {self._head},"choices":[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{told}}}]}}\n\n'.encode()

    def usage_event(self, usage: dict[str, int]) -> bytes:
        return b"data: " + json.dumps(self._base | {"choices": [], "usage": usage}).encode() + b"\n\n"

    def whole(self, text: str, reason: str, usage: dict[str, int]) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return self._base | {"choices": [choice], "usage": usage}


def read_request(body: Any, stop: frozenset[int]) -> Request:
    """
    Raises:
      ValueError: it asks for what a baseline does not do.
    """
    prompt = body.get("prompt") if isinstance(body, dict) else None
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list):
        prompt = prompt[0]
    if not isinstance(prompt, list) or not all(isinstance(token, int) for token in prompt):
        raise ValueError("prompt must be a list of tokens")
    if body.get("temperature", 0) not in (0, None):
        raise ValueError("temperature must be 0: baselines are greedy")
    return Request(prompt, int(body.get("max_tokens", 16)), frozenset() if body.get("ignore_eos") else stop)


async def _whole(request: Request, stream: Stream, frame: Frame, text: Text) -> web.Response:
    tokens = await stream.all()
    return web.json_response(frame.whole(text(request.prompt, tokens), _reason(request, tokens), _usage(request, len(tokens))))


async def _streamed(http: web.Request, body: dict[str, Any], request: Request, stream: Stream, frame: Frame) -> web.StreamResponse:
    """The first event goes through aiohttp, those after it straight to the connection, in chunks as HTTP wants them: thousands a second."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
    response.enable_chunked_encoding()
    await response.prepare(http)
    tokens = await stream.some()
    count, ended = len(tokens), len(tokens) >= request.max_tokens or tokens[-1] in request.stop
    await response.write(frame.event(tokens, _reason(request, tokens) if ended else None))

    def take(tokens: Sequence[int], last: bool) -> None:
        nonlocal count
        count += len(tokens)
        event = frame.event(tokens, _reason(request, tokens) if last else None)
        if http.transport is not None:  # who has left is cancelled soon
            http.transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    await stream.relay(take)
    if (body.get("stream_options") or {}).get("include_usage"):
        await response.write(frame.usage_event(_usage(request, count)))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _reason(request: Request, tokens: Sequence[int]) -> str:
    return "stop" if tokens[-1] in request.stop else "length"


def _usage(request: Request, made: int) -> dict[str, int]:
    return {"prompt_tokens": len(request.prompt), "completion_tokens": made, "total_tokens": len(request.prompt) + made}


@contextlib.asynccontextmanager
async def listening(
    engine: Engine, name: str, *, stop: frozenset[int], text: Text = numbers, host: str, port: int, failed: Callable[[], object]
) -> AsyncIterator[str]:
    """The engine behind HTTP; yields the address of its API."""
    sys.setswitchinterval(_SWITCH_S)
    thread = EngineThread(engine, failed=failed)
    runner = web.AppRunner(Api(thread, name, stop=stop, text=text).app(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=4096).start()
        yield f"http://{host}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
        await asyncio.to_thread(thread.stop)


async def serve(engine: Engine, name: str, *, stop: frozenset[int], text: Text = numbers, host: str, port: int) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
      SystemExit: the engine failed.
    """
    loop, ended, failed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def fail() -> None:
        failed.set()
        ended.set()

    async with listening(engine, name, stop=stop, text=text, host=host, port=port, failed=fail) as address:
        print(address, flush=True)
        await ended.wait()
    if failed.is_set():
        raise SystemExit("the engine failed")
