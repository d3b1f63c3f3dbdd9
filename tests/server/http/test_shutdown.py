import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from muxjax.__main__ import main
from muxjax.errors import ConfigError, RequestError
from muxjax.server.background import in_background
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import drain
from muxjax.server.http.serve import serve as serve_until_signal
from muxjax.server.openai.schema import parse_completion
from muxjax.server.service import Service
from tests.fakes import FakeEngine
from tests.server.kit import STAMP

PROGRAM = """
import asyncio, sys
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import serve
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine
from tests.server.kit import served
service = Service(FakeEngine(["a"], turn_s=float(sys.argv[1])), Catalog([served(ByteTokenizer(300), "a")]))
asyncio.run(serve(service, HttpOptions(port=0, shutdown_timeout_s=60), report=lambda line: print(line, flush=True)))
print("over")
"""


WAIT_S = 60


@contextlib.contextmanager
def running(turn_s: float) -> Iterator[tuple[subprocess.Popen, openai.OpenAI]]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(turn_s)], stdout=subprocess.PIPE, text=True)
    try:
        yield process, openai.OpenAI(base_url=process.stdout.readline().strip(), api_key="none", max_retries=0)
    finally:
        process.kill()
        process.communicate()


def refused(client: openai.OpenAI) -> openai.InternalServerError:
    """How a server that was told to end refuses a request; those that it takes before are answered."""
    with pytest.raises(openai.InternalServerError) as refusal:
        for _ in range(50):
            client.completions.create(model="a", prompt="hello", max_tokens=1)
    return refusal.value


def test_sigterm_lets_requests_end_and_refuses_new_ones():
    with running(turn_s=0.1) as (process, client):
        stream = iter(client.completions.create(model="a", prompt="hello", max_tokens=40, stream=True))
        next(stream)
        process.send_signal(signal.SIGTERM)
        refusal = refused(client)
        assert refusal.status_code == 503 and refusal.response.headers["Retry-After"] == "1"
        assert list(stream)[-1].choices[0].finish_reason == "length"
        assert process.wait(timeout=WAIT_S) == 0


def test_a_second_signal_ends_requests_at_once():
    with running(turn_s=0.5) as (process, client):
        stream = iter(client.completions.create(model="a", prompt=[5], max_tokens=99, stream=True))
        next(stream)
        process.send_signal(signal.SIGTERM)
        refused(client)  # two signals that a process has not taken yet are one
        process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="stopped before the answer was complete"):
            list(stream)
        assert process.wait(timeout=WAIT_S) == 0


def test_draining_in_time_loses_nothing_and_running_out_of_time_aborts(catalog):
    async def answered(timeout_s: float, turn_s: float) -> int:
        service = Service(FakeEngine(["org/a"], turn_s=turn_s), catalog)
        generation = parse_completion({"model": "a", "prompt": [72], "max_tokens": 30}, catalog, STAMP)
        async with service.running(), service.generate(generation) as deltas:
            await drain(service, timeout_s, hurry=asyncio.Event())
            assert not service.ready
            return sum([len(delta.tokens) async for together in deltas for delta in together])

    assert asyncio.run(answered(WAIT_S, 0.01)) == 30
    with pytest.raises(RequestError, match="stopped before"):
        asyncio.run(answered(0.05, 1.0))


def test_a_taken_port_is_a_plain_error(serve, catalog):
    with serve() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"), contextlib.ExitStack() as stack:
            stack.enter_context(in_background(Service(FakeEngine(["a"]), catalog), HttpOptions(port=port)))
    assert all(thread.name != "muxjax-loop" for thread in threading.enumerate())


def test_bad_input_is_one_line_and_code_2(capsys):
    assert main(["serve", "a=x", "--port", "http"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "muxjax: --port must be an integer, got 'http'\n")


def test_a_wrong_command_is_refused(capsys):
    assert main(["sreve"]) == 2
    assert "sreve" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_server_whose_standard_output_is_full_serves(catalog):
    async def served() -> bool:
        service = Service(FakeEngine(["org/a"]), catalog)

        reported = asyncio.Event()

        def report(line: str) -> None:
            reported.set()
            with open("/dev/full", "w") as full:
                print(line, file=full, flush=True)

        serving = asyncio.create_task(serve_until_signal(service, HttpOptions(port=0), report=report))
        while not (serving.done() or reported.is_set()):  # what hears signals is there behind the report, not before
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        alive = not serving.done()
        signal.raise_signal(signal.SIGTERM)
        return alive and await serving

    assert asyncio.run(served())
