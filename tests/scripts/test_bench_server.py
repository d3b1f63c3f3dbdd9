"""The load bench sees what is lost, doubled or late."""

import asyncio
import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.bench.told import Event, RecordedStream, read, record_streams
from scripts.bench_server import delays, fault_of, plain_tokens

ROOT = Path(__file__).parents[2]


class Letters:
    """A tokenizer whose token is a letter."""

    def decode(self, tokens, *, special: bool = False) -> str:
        return "".join(chr(token) for token in tokens)


PROMPT = tuple(map(ord, "abca"))
RIGHT = RecordedStream(
    id="x", events=tuple(Event(text=text, at_s=at_s) for text, at_s in (("a", 2.0), ("bc", 3.0), ("a", 5.0))), complete=True
)


def test_an_answer_that_repeats_its_prompt_is_right():
    assert fault_of(PROMPT, RIGHT, Letters()) == ""


@pytest.mark.parametrize(
    "events, fault",
    [
        (RIGHT.events[:-1], "3 characters in place of 4"),
        ((*RIGHT.events, RIGHT.events[-1]), "5 characters in place of 4"),
        ((RIGHT.events[1], RIGHT.events[0], RIGHT.events[2]), "other ones from 0 on"),
    ],
    ids=["lost", "doubled", "out of order"],
)
def test_a_wrong_answer_is_told(events, fault):
    assert fault in fault_of(PROMPT, replace(RIGHT, events=events), Letters())


def test_an_answer_without_an_end_is_told():
    assert fault_of(PROMPT, replace(RIGHT, complete=False), Letters()) == "it has no end"


def test_a_token_is_late_by_the_time_from_its_making_to_its_event():
    assert list(delays(PROMPT, RIGHT, {"x-0": [1.0, 2.0, 2.5, 4.0]}, Letters())) == [1.0, 1.0, 0.5, 1.0]


def chunked(*contents: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in (*contents, b""))


def test_events_have_the_time_of_their_last_byte():
    events = [b'data: {"id": "x", "choices": [{"text": "%s"}]}\n\n' % text for text in (b"a", b"b", b"c")]
    whole = chunked(events[0], events[1] + events[2], b"data: [DONE]\n\n")
    cut = whole.index(b'"b"') + 1
    answer = read([(1.0, whole[:cut]), (2.0, whole[cut:])])

    assert [(event.text, event.at_s) for event in answer.events] == [("a", 1.0), ("b", 2.0), ("c", 2.0)]
    assert (answer.id, answer.complete) == ("x", True)
    assert not read([(1.0, whole[: whole.index(b"data: [DONE]") - 4])]).complete


def test_a_refusal_is_no_stream():
    with pytest.raises(ValueError, match="503"):
        read([(1.0, b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}")])


def test_plain_tokens_are_seen():
    class Digits(Letters):
        def decode(self, tokens, *, special: bool = False) -> str:
            return "".join("7" if token % 2 else " " for token in tokens)

    assert set(plain_tokens(Digits())) == set(range(1, 512, 2))


def test_a_small_load_comes_through_whole():
    command = [sys.executable, "-m", "scripts.bench_server", "--streams", "20", "--tokens", "8", "--keep-nothing"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"JAX_PLATFORMS": "cpu"})

    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 4
    assert "as fast as they may" in ran.stdout


def test_streams_that_nobody_waits_for_any_more_are_hung_up_on():
    async def cancelled() -> bool:
        came, gone = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            came.set()
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            gone.set()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            streams = asyncio.create_task(record_streams(f"http://127.0.0.1:{port}", "/", [{}]))
            await asyncio.wait_for(came.wait(), 60)
            streams.cancel()
            await asyncio.wait_for(gone.wait(), 60)
        return streams.cancelled()

    assert asyncio.run(cancelled())
