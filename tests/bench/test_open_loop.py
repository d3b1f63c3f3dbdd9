"""Requests are sent at their times, and whatever becomes of them is a record."""

import asyncio
import json
import socket
import time

import pytest

from muxjax.bench.client.address import address, key_in, reached
from muxjax.bench.client.open_loop import Ask, Client, Server, made
from muxjax.bench.records import Record
from muxjax.errors import ConfigError
from tests.bench.stub import Stub


def ask(at_s: float = 0.0, tokens: int = 3, **extra) -> Ask:
    body = {"model": "m", "prompt": [1, 2, 3, 4], "max_tokens": tokens, "stream": True, **extra}
    return Ask(at_s, "m", 4, json.dumps(body).encode())


def measured(stub: Stub, asks, **options) -> list[Record]:
    async def run() -> list[Record]:
        server, url = await stub.start()
        records: list[Record] = []
        async with server:
            places = {"m": await reached(address(url))}
            await Client(Server(places=places, path="/completions", **options), 7, records.append).run(made(asks))
        return records

    return asyncio.run(run())


@pytest.mark.parametrize("chunked", [True, False])
def test_a_stream_has_the_times_of_its_tokens(chunked):
    (record,) = measured(Stub(first_s=0.1, gap_s=0.05, chunked=chunked), [ask()])

    assert (record.model, record.seed, record.status, record.error) == ("m", 7, 200, "")
    assert (record.prompt_tokens, record.output_tokens) == (4, 3)
    assert record.first_s is not None and record.first_s >= 0.1 and len(record.gaps_s) == 2
    assert record.end_s == pytest.approx(record.first_s + sum(record.gaps_s), abs=1e-5)
    assert record.served is not None and record.served.ttft_s == pytest.approx(record.first_s)


def test_nobody_waits_for_an_answer_before_the_next_request():
    records = measured(Stub(crowd=6), [ask(0.1 * k, tokens=1) for k in range(6)], timeout_s=20.0)

    assert not any(record.error for record in records)
    assert [record.intended_s for record in sorted(records, key=lambda one: one.intended_s)] == [round(0.1 * k, 6) for k in range(6)]
    assert all(record.sent_s >= record.intended_s for record in records)


def test_latency_counts_from_the_time_at_which_the_request_was_to_be_sent():
    def late():
        yield ask(0.0, tokens=1)
        time.sleep(0.3)  # a client that is busy with something else
        yield ask(0.05, tokens=1)

    _, record = sorted(measured(Stub(), late()), key=lambda one: one.intended_s)

    assert record.sent_s - record.intended_s > 0.2
    assert record.served is not None and record.served.ttft_s > 0.2


@pytest.mark.parametrize(
    "stub, error, status",
    [
        (Stub(wrong=lambda body: (404, '{"error": {"message": "no such model"}}')), "no such model", 404),
        (Stub(wrong=lambda body: (503, "busy")), "busy", 503),
        (Stub(wrong=lambda body: (500, "")), "status 500", 500),
        (Stub(wrong=lambda body: (200, '{"choices": []}')), "no stream of events", 200),
        (Stub(wrong=lambda body: (200, "data: {]\n\n")), "no stream of events", 200),
        (Stub(wrong=lambda body: (200, 'data: {"error": {"message": "lost"}}\n\ndata: [DONE]\n\n')), "lost", 200),
        (Stub(broken_after=2), "the stream broke off", 200),
        (Stub(gap_s=60.0), "no end within 3 s", 200),
    ],
    ids=["refused", "text", "empty", "no stream", "no json", "error in the stream", "broken", "slow"],
)
def test_what_fails_is_a_record_and_the_others_go_on(stub, error, status):
    wrong, stub.wrong = stub.wrong, lambda body: None if "good" in body else wrong(body)
    good, bad = ask(0.05, tokens=1, good=True), ask(0.0)
    timeout_s = 3.0 if stub.gap_s else 60.0
    records = {record.intended_s: record for record in measured(stub, [bad, good], timeout_s=timeout_s)}

    assert error in records[0.0].error and records[0.0].status == status and records[0.0].served is None
    assert records[0.05].error == ""


def test_a_server_that_is_gone_is_an_error_of_each_request():
    async def run() -> list[Record]:
        stub, records = Stub(), []
        server, url = await stub.start()
        place = await reached(address(url))
        server.close()
        await server.wait_closed()
        await Client(Server(places={"m": place}, path="/completions"), 0, records.append).run(made([ask(), ask()]))
        return records

    assert [(record.status, record.error.split(":")[0]) for record in asyncio.run(run())] == [(0, "no connection, or a broken one")] * 2


def test_a_server_that_never_was_is_told_before_anything_is_measured():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no server at {url}"):
            asyncio.run(reached(address(url)))


def test_what_had_ended_is_kept_when_the_rest_is_cancelled():
    async def run() -> tuple[list[Record], bool, float]:
        stub, records = Stub(first_s=0.05), []
        server, url = await stub.start()
        client = Client(Server(places={"m": await reached(address(url))}, path="/completions"), 0, records.append)
        task = asyncio.create_task(client.run(made([ask(0.0), ask(0.0), ask(60.0)])))
        while len(records) < 2:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        return records, client.end(complete=False).complete, client.end(complete=False).ended_s

    records, complete, ended_s = asyncio.run(run())
    assert len(records) == 2 and not complete and 0 < ended_s < 30


def test_what_keeps_records_may_fail():
    async def run() -> None:
        server, url = await Stub().start()
        async with server:
            await Client(Server(places={"m": await reached(address(url))}, path="/completions"), 0, full).run(made([ask(), ask(60.0)]))

    def full(record: Record) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        asyncio.run(run())


def test_the_key_is_sent_and_the_path_follows_that_of_the_url():
    stub = Stub()
    measured(stub, [ask(tokens=1)], key="secret")

    assert b"POST /v1/completions HTTP/1.1" in stub.heads[0] and b"Authorization: Bearer secret" in stub.heads[0]
    assert address("http://a:1").prefix == "/v1" and address("http://a:1/x/v2/").prefix == "/x/v2"
    assert address("https://a/v1").port == 443 and address("https://a/v1").tls is not None
    assert b"\r\nHost: [::1]:8000\r\n" in address("http://[::1]:8000").request("/completions", b"{}")
    assert key_in({}) == "" and key_in({"OPENAI_API_KEY": "k"}) == "k"


@pytest.mark.parametrize("url", ["", "a:1", "ftp://a", "http://", "http://a:0", "http://a b", "http://a:99999"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="the address must"):
        address(url)
