"""Bodies are JSON objects of bounded cost, however large they may be."""

import threading
import time
import tracemalloc

import pytest

from muxjax.errors import RequestError
from muxjax.server.http import body
from muxjax.server.http.body import MOST_COLONS_AND_BRACKETS, MOST_COMMAS, read_object

PADDING = b'{"text": "' + b"a" * 2**16 + b'", '


@pytest.mark.parametrize(
    ("sign", "most", "what"),
    [
        (b",", MOST_COMMAS, "commas"),
        (b":", MOST_COLONS_AND_BRACKETS, "colons and opening brackets"),
        (b"[", MOST_COLONS_AND_BRACKETS, "colons and opening brackets"),
        (b"{", MOST_COLONS_AND_BRACKETS, "colons and opening brackets"),
    ],
)
def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(sign, most, what, monkeypatch):
    assert read_object(PADDING + b'"more": "' + sign * (most - 5) + b'"}')["more"] == (sign * (most - 5)).decode()
    monkeypatch.setattr(body, "_parsed", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(RequestError, match=rf"The body has \d+ {what}, at most {most} are taken.") as refusal:
        read_object(PADDING + b'"more": "' + sign * (most + 1) + b'"}')
    assert refusal.value.status == 413


def test_the_dearest_body_that_is_taken_is_parsed_in_moments():
    keys = ",".join(f'"k{number}":{{}}' for number in range((MOST_COLONS_AND_BRACKETS - 8) // 2))
    began_s = time.thread_time()
    assert len(read_object(PADDING + keys.encode() + b"}")) > 100_000
    assert time.thread_time() - began_s < 1.0


def test_one_large_body_is_parsed_at_a_time(monkeypatch):
    at_once, most, parse = [0], [0], body._parsed

    def parsed(*arguments):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        at_once[0] -= 1
        return parse(*arguments)

    monkeypatch.setattr(body, "_parsed", parsed)
    threads = [threading.Thread(target=read_object, args=(PADDING + b'"a": 1}',)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_are_refused(number):
    with pytest.raises(RequestError, match=r"is no JSON|is beyond the range of numbers"):
        read_object(f'{{"a": [{number}]}}'.encode())
    assert read_object(b'{"a": [1e300, -1e-400]}') == {"a": [1e300, 0.0]}


def test_a_large_body_is_not_kept_beside_what_is_read_of_it():
    size = 2**22
    tracemalloc.start()
    try:
        held = [b'{"text": "' + b"a" * size + b'"}']
        tracemalloc.reset_peak()
        assert len(read_object(held.pop())["text"]) == size
        assert tracemalloc.get_traced_memory()[1] < 2.2 * size
    finally:
        tracemalloc.stop()
