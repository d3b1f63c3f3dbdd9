"""What an answer said and when, however its bytes came."""

import json

import pytest

from muxjax.bench.client.answer import SLICE, Answer, read

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def event(**fields) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(text: str = "x", **more) -> bytes:
    return event(choices=[{"text": text, **more}])


def answer(*pieces: bytes) -> Answer:
    """Of pieces that came at 1.0, 2.0 and so on."""
    reading = read([(float(k), piece) for k, piece in enumerate(pieces, start=1)])
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def test_an_event_has_the_time_of_its_last_byte_wherever_pieces_and_chunks_are_cut():
    events = token("a") + token("b") + token("c") + b"data: [DONE]\n\n"
    cut = events.index(b'"b"')
    whole = CHUNKED + chunk(events[:cut]) + chunk(events[cut:]) + chunk(b"")
    at = whole.index(b'"b"') + 2

    assert answer(whole).events_s == [1.0, 1.0, 1.0]
    assert answer(whole[:at], whole[at:]).events_s == [1.0, 2.0, 2.0]
    assert answer(*(whole[i : i + 1] for i in range(len(whole)))).error == ""


def test_tokens_are_what_the_server_counts():
    found = answer(CHUNKED + chunk(token() + event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 9}) + b"data: [DONE]\n\n"))
    assert (found.prompt_tokens, found.output_tokens, len(found.events_s)) == (5, 9, 1)


@pytest.mark.parametrize("usage", [{"total_tokens": 14}, {"prompt_tokens": None, "completion_tokens": None}])
def test_what_the_server_does_not_count_is_not_none(usage):
    found = answer(CHUNKED + chunk(token() + event(choices=[], usage=usage) + b"data: [DONE]\n\n"))
    assert (found.prompt_tokens, found.output_tokens, found.error) == (None, None, "")


def test_an_event_without_text_is_a_token_unless_it_opens_or_closes_the_answer():
    def delta(finish: str | None = None, **fields) -> bytes:
        return event(choices=[{"delta": fields, "finish_reason": finish}])

    opened, closed = delta(role="assistant", content=""), delta("stop")
    body = opened + delta(content="") + delta(content="x") + delta(reasoning_content="y") + delta(tool_calls=[{"index": 0}]) + closed
    assert len(answer(CHUNKED + chunk(body)).events_s) == 4
    assert len(answer(CHUNKED + chunk(token("") + token("", finish_reason="length"))).events_s) == 1


def test_an_answer_that_its_first_token_ends_has_that_token_when_it_is_closed():
    def told(count: int) -> list[float]:
        usage = event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": count})
        return answer(CHUNKED, chunk(token("", finish_reason="stop")), chunk(usage), chunk(b"data: [DONE]\n\n")).events_s

    assert told(1) == [2.0]
    assert told(0) == []  # a server that says so has made none


def test_a_server_that_says_no_done_has_told_the_end_by_its_reason():
    assert answer(CHUNKED + chunk(token(finish_reason="stop"))).error == ""
    assert answer(CHUNKED + chunk(token())).error == "the stream broke off"


@pytest.mark.parametrize(
    "pieces, error",
    [
        ([], "the connection ended without an answer"),
        ([b"SSH-2.0\r\n"], "no answer in HTTP"),
        ([CHUNKED], "no stream of events"),
        ([CHUNKED + chunk(b'{"error": {"message": "the engine is dead"}}')], "no stream of events, but the engine is dead"),
        ([CHUNKED + b"zz\r\nwrong"], "no stream of events"),
        ([CHUNKED + chunk(b'data: {"choices": 3}\n\n')], "no stream of events"),
        ([b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], "status 500"),
        ([b'HTTP/1.1 400 X\r\n\r\n{"error": "short"}'], "short"),
    ],
)
def test_what_is_no_answer_is_told(pieces, error):
    assert answer(*pieces).error.startswith(error)


def test_a_long_stream_is_read_in_slices():
    reading = read([(1.0, CHUNKED + chunk(token() * 10 * SLICE))])
    assert sum(1 for _ in reading) == 10
