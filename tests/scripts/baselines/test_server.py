"""The baselines' server with an engine that counts: what goes over HTTP, and who waits for whom."""

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest

from muxjax.bench import at_once, told
from scripts.baselines import server
from scripts.baselines.engine import Made

STOP = frozenset({7})


class Counting:
    """Answers a prompt with the numbers that follow its last token."""

    def __init__(self, *, fails: bool = False, step_s: float = 0.001):
        self.max_len, self.cancelled, self.closed, self._fails, self._step_s = 1000, [], False, fails, step_s
        self._made = {}

    @property
    def busy(self):
        return bool(self._made)

    def submit(self, request):
        self._made[request] = 0

    def cancel(self, request):
        self.cancelled.append(request)
        self._made.pop(request, None)

    def step(self):
        time.sleep(self._step_s)
        if self._fails:
            raise RuntimeError("no more memory")
        made = []
        for request in list(self._made):
            self._made[request] += 1
            token = request.prompt[-1] + self._made[request]
            last = self._made[request] == request.max_tokens or token in request.stop
            made.append(Made(request, token, last))
            if last:
                del self._made[request]
        return made

    def close(self):
        self.closed = True


@contextlib.asynccontextmanager
async def serving(engine, **how):
    failed = asyncio.Event()
    async with (
        server.listening(engine, "tiny", stop=STOP, host="127.0.0.1", port=0, failed=failed.set, **how) as address,
        aiohttp.ClientSession() as session,
    ):
        yield address, session, failed


def ask(body, **how):
    """Status and JSON of a completion."""

    async def run():
        async with serving(Counting(), **how) as (address, session, _), session.post(f"{address}/completions", json=body) as response:
            return response.status, await response.json()

    return asyncio.run(run())


def test_a_whole_answer_has_its_tokens_and_its_usage():
    status, answer = ask({"model": "tiny", "prompt": [1, 2], "max_tokens": 4, "temperature": 0})
    assert status == 200
    assert answer["choices"] == [{"index": 0, "text": " 3 4 5 6", "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_a_whole_answer_is_told_in_words_where_there_are_any():
    _, answer = ask({"prompt": [1, 2], "max_tokens": 2}, text=lambda prompt, tokens: f"{list(prompt)} -> {list(tokens)}")
    assert answer["choices"][0]["text"] == "[1, 2] -> [3, 4]"


@pytest.mark.parametrize("ignore, text, reason", [(False, " 6 7", "stop"), (True, " 6 7 8", "length")])
def test_an_answer_ends_at_a_stop_token_unless_it_is_ignored(ignore, text, reason):
    _, answer = ask({"prompt": [5], "max_tokens": 3, "ignore_eos": ignore})
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (text, reason)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "text"},
        {"prompt": []},
        {"prompt": [1], "max_tokens": 0},
        {"prompt": [1], "max_tokens": 1000},
        {"prompt": [1], "temperature": 1},
        [1],
    ],
)
def test_what_cannot_be_answered_is_refused(body):
    status, answer = ask(body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"


def test_the_projects_own_clients_read_its_streams():
    async def run():
        async with serving(Counting()) as (address, session, _):
            load = at_once.StreamLoad(streams=5, prompt_tokens=3, output_tokens=40)
            timings = await at_once.run_load(address, ["tiny"], load)
            body = {"prompt": [1], "max_tokens": 3, "ignore_eos": True, "stream": True}
            (recorded,) = await told.record_streams(address, "/completions", [body])
            async with session.get(f"{address}/models") as response:
                models = await response.json()
            async with session.get(f"{address.removesuffix('/v1')}/health") as response:
                return timings["tiny"], recorded, models, response.status

    timings, recorded, models, health = asyncio.run(run())
    assert [timing.tokens for timing in timings] == [40] * 5
    assert (recorded.complete, "".join(event.text for event in recorded.events)) == (True, " 2 3 4")
    assert ([model["id"] for model in models["data"]], health) == (["tiny"], 200)


def test_the_last_event_says_why_the_answer_ended():
    async def run():
        body = {"prompt": [5], "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}}
        async with serving(Counting()) as (address, session, _), session.post(f"{address}/completions", json=body) as response:
            return (await response.text()).strip().split("\n\n")

    *events, usage, done = asyncio.run(run())
    reasons = [json.loads(event[6:])["choices"][0]["finish_reason"] for event in events]
    assert reasons == [*([None] * (len(reasons) - 1)), "stop"]
    assert json.loads(usage[6:])["usage"]["completion_tokens"] == 2
    assert done == "data: [DONE]"


def test_who_leaves_is_cancelled_and_the_engine_is_closed_at_the_end():
    engine = Counting(step_s=0.05)  # it does not end by itself meanwhile

    async def run():
        async with serving(engine) as (address, session, _):
            body = {"prompt": [100], "max_tokens": 800, "stream": True}
            async with session.post(f"{address}/completions", json=body) as response:
                await response.content.readline()
                response.close()
            while not engine.cancelled:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert engine.closed


def test_an_engine_that_fails_ends_all_requests_and_says_so():
    async def run():
        async with (
            serving(Counting(fails=True)) as (address, session, failed),
            session.post(f"{address}/completions", json={"prompt": [1]}) as response,
        ):
            await failed.wait()
            return response.status

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 500
