"""What clients see of a model or an engine that fails, and how the process ends."""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest

from muxjax.engine.engine import Engine
from muxjax.scheduler.policies import by_name
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.engine.test_engine import WaitingDevice
from tests.engine.test_unit import LARGEST, LAYOUTS, make_unit
from tests.engine.test_watchdog import until
from tests.fake_device import FakeClock, FakeDevice
from tests.faulty_device import LOST, NAN, FaultyDevice
from tests.server.kit import Server, served

TEXT, WAIT_S = ByteTokenizer(50), 60


@pytest.fixture
def endpoint():
    """Starts a service on an engine of the models a, b and c over a device."""
    stop = []

    def start(device: FakeDevice, **options) -> Server:
        engine = Engine(make_unit(total_blocks=2 * LARGEST), by_name("adbs"), device, **options)
        service = Service(engine, Catalog([served(TEXT, name, max_model_len=40) for name in LAYOUTS]))
        background = in_background(service, HttpOptions(port=0))
        url = background.__enter__()
        stop.append(background)
        return Server(engine, service, url)

    yield start
    for background in stop:
        background.__exit__(None, None, None)


def ready(server: Server, query: str = "") -> tuple[int, dict]:
    try:
        answer = urllib.request.urlopen(server.url.removesuffix("/v1") + "/ready" + query, timeout=WAIT_S)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, json.load(answer)


def test_readiness_names_models_that_have_failed_and_health_says_that_the_process_lives(endpoint):
    server = endpoint(FaultyDevice(LAYOUTS, FakeClock(), faults={0: NAN}))
    assert ready(server) == (200, {"ready": True, "state": "ready", "failed": []})
    told(lambda: ask(server, "a"))
    assert ready(server) == (503, {"ready": False, "state": "ready", "failed": ["a"]})
    assert ready(server, "?model=a") == ready(server)
    assert ready(server, "?model=b") == (200, {"ready": True, "state": "ready", "failed": []})
    assert ready(server, "?model=z")[0] == 404 and health(server) == 200 and ask(server, "b")


def test_a_server_is_not_ready_while_a_model_loads(endpoint, monkeypatch):
    server = endpoint(FaultyDevice(LAYOUTS, FakeClock(), faults={}))
    monkeypatch.setattr(server.engine, "states", lambda: {"a": "loading", "b": "ready", "c": "restarting"})
    assert ready(server) == (503, {"ready": False, "state": "ready", "failed": [], "loading": ["a"]})
    assert ready(server, "?model=b")[0] == 200 and health(server) == 200
    monkeypatch.setattr(server.engine, "states", lambda: {"a": "ready", "b": "ready", "c": "restarting"})
    assert ready(server)[0] == 200 and ready(server, "?model=c")[0] == 503


def ask(server: Server, model: str, tokens: int = 20) -> list:
    stream = server.client.completions.create(model=model, prompt=[5, 6], max_tokens=tokens, stream=True, extra_body={"ignore_eos": True})
    return list(stream)


def health(server: Server) -> int:
    try:
        return urllib.request.urlopen(server.url.removesuffix("/v1") + "/health", timeout=WAIT_S).status
    except urllib.error.HTTPError as error:
        return error.code


def told(asked) -> openai.APIError:
    with pytest.raises(openai.APIError) as error:
        asked()
    return error.value


@pytest.mark.parametrize("kind", [NAN, LOST])
def test_a_model_that_fails_in_an_answer_is_a_clear_503_and_the_others_answer(endpoint, kind):
    server = endpoint(FaultyDevice(LAYOUTS, FakeClock(), faults={3: kind}))
    assert told(lambda: ask(server, "a")).code == "model_failed"
    refused = told(lambda: server.client.completions.create(model="a", prompt=[5], max_tokens=3))
    assert (refused.status_code, refused.code) == (503, "model_failed") and "The model `a` has failed" in refused.message
    assert ask(server, "b")[-1].choices[0].finish_reason == "length" and health(server) == 200


def test_a_model_that_fails_before_the_first_token_has_the_status(endpoint):
    server = endpoint(FaultyDevice(LAYOUTS, FakeClock(), faults={0: NAN}))
    failed = told(lambda: server.client.completions.create(model="a", prompt=[5], max_tokens=3))
    assert (failed.status_code, failed.code) == (503, "model_failed")


def test_an_engine_that_dies_ends_every_answer(endpoint):
    device = FaultyDevice(LAYOUTS, FakeClock(), faults={})
    server = endpoint(device)
    answers = []
    threads = [threading.Thread(target=lambda name=name: answers.append(told(lambda: ask(server, name, 38)).code)) for name in "abc"]
    device.renew = device.collect = lambda **_: 1 / 0
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert set(answers) <= {"aborted", "unavailable"} and len(answers) == 3
    assert health(server) == 503
    assert told(lambda: server.client.completions.create(model="a", prompt=[5], max_tokens=3)).code == "unavailable"


def test_a_stuck_engine_ends_every_answer_and_takes_new_ones_when_it_goes_on(endpoint):
    device = WaitingDevice()
    server = endpoint(device, step_timeout_s=2.0)  # in which every other step ends, on a busy machine too
    assert told(lambda: ask(server, "a")).code == "aborted"
    assert health(server) == 503
    device.go_on.set()
    until(lambda: health(server) == 200)
    assert ask(server, "a")[-1].choices[0].finish_reason == "length"


PROGRAM = """
import asyncio, sys, time
from muxjax.engine.engine import Engine
from muxjax.scheduler.policies import by_name
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import serve
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.engine.test_unit import LARGEST, LAYOUTS, make_unit
from tests.fake_device import FakeClock, FakeDevice
from tests.server.kit import served

class Gone(FakeDevice):
    def collect(self, *, wait):
        {what}

engine = Engine(make_unit(total_blocks=2 * LARGEST), by_name("adbs"), Gone(LAYOUTS, FakeClock()), step_timeout_s=0.2)
service = Service(engine, Catalog([served(ByteTokenizer(50), "a", max_model_len=40)]))
ended = asyncio.run(serve(service, HttpOptions(port=0, on_failure=sys.argv[1]), report=lambda line: print(line, flush=True)))
sys.exit(0 if ended else 7)
"""


@pytest.mark.parametrize("what", ["raise MemoryError('the device is lost')", "time.sleep(600)"])
@pytest.mark.parametrize("on_failure", ["exit", "stay"])
def test_the_process_ends_after_telling_its_clients_unless_it_is_to_stay(what, on_failure):
    program = [sys.executable, "-c", PROGRAM.replace("{what}", what), on_failure]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        client = openai.OpenAI(base_url=process.stdout.readline().strip(), api_key="none", max_retries=0)
        failed = told(lambda: client.completions.create(model="a", prompt=[5], max_tokens=3))
        assert failed.status_code == 503
        if on_failure == "exit":
            assert process.wait(timeout=WAIT_S) == 7
        else:
            time.sleep(1.5)
            assert process.poll() is None
            process.terminate()
            process.terminate()
    finally:
        process.kill()
        _, log = process.communicate()
    assert "the device is" in log
