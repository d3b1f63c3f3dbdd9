"""What is answered, and logged, when a handler raises."""

import asyncio
import gc
import logging
import threading
import weakref
from concurrent.futures import Future

import aiohttp
import pytest
from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.http.errors import _forget, errors


async def cut_off(request: web.Request) -> web.StreamResponse:
    """A stream whose client has gone before its last part."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"one")
    request.transport.abort()
    while True:
        await response.write(b"more")
        await asyncio.sleep(0)


async def gone_before(request: web.Request) -> web.StreamResponse:
    """A client that has gone before there is an answer."""
    request.transport.abort()
    await asyncio.sleep(0)
    raise ConnectionResetError("Cannot write to closing transport")


async def reset_elsewhere(request: web.Request) -> web.StreamResponse:
    """Another connection than the client's was lost, which is a fault of ours."""
    raise ConnectionResetError("a database hung up")


def ask(handler, caplog) -> int:
    """The status that a client sees of the handler behind the middleware, 0 for a lost connection."""

    async def once() -> int:
        app = web.Application(middlewares=[errors])
        app.router.add_get("/", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as response:
                await response.read()
                return response.status
        except aiohttp.ClientError:
            return 0
        finally:
            await runner.cleanup()

    with caplog.at_level(logging.WARNING):
        return asyncio.run(once())


@pytest.mark.parametrize("handler", [cut_off, gone_before])
def test_a_client_that_leaves_is_no_fault_in_the_log(handler, caplog):
    assert ask(handler, caplog) == 0
    assert not caplog.records


def test_a_connection_that_is_lost_elsewhere_is_a_fault(caplog):
    assert ask(reset_elsewhere, caplog) == 500
    assert [record.message for record in caplog.records] == ["the request failed"]


class Body:
    """Something large."""


def test_what_a_refused_request_held_is_free_at_once(caplog):
    held: list[weakref.ref] = []

    async def refuse(request: web.Request) -> web.StreamResponse:
        body = Body()
        held.append(weakref.ref(body))
        error = RequestError("no")  # this frame holds the error, whose traceback holds the frame
        raise error

    gc.disable()
    try:
        assert ask(refuse, caplog) == 400
        assert held[0]() is None
    finally:
        gc.enable()


def test_what_a_refused_request_held_is_free_at_once_though_the_thread_that_refused_it_is_not_done(caplog):
    held: list[weakref.ref] = []
    answered = threading.Event()
    threads: list[threading.Thread] = []

    def work(future: Future, body: Body) -> None:
        try:
            raise RequestError("no")
        except RequestError as error:
            future.set_exception(error)
        answered.wait(10)

    async def refuse(request: web.Request) -> web.StreamResponse:
        body, future = Body(), Future()
        held.append(weakref.ref(body))
        threads.append(threading.Thread(target=work, args=(future, body)))
        threads[0].start()
        return await asyncio.wrap_future(future)

    gc.disable()
    try:
        assert ask(refuse, caplog) == 400
        answered.set()
        threads.pop().join()
        assert held[0]() is None
    finally:
        gc.enable()


def test_an_error_that_is_its_own_cause_is_answered():
    error = RequestError("no")
    error.__cause__ = error
    _forget(error)
    assert error.__traceback__ is None
