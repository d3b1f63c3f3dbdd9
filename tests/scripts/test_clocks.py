"""No attack of the bench stops the clock of other clients, on the server as it is; and the stopwatches would tell."""

import http.server
import os
import threading
import time

import pytest

from muxjax.bench.stopwatch import quantile, watched
from scripts.clocks.attacks import ATTACKS
from scripts.clocks.measure import measure
from scripts.clocks.server import serving

BODY_BYTES = 8 * 2**20
"""As a server takes them by default."""
MOST_S, TRIES = 3.0, 3
"""Twelve times the goal, and not each time: another process may have both processors for a while. Each attack has once stopped a server for
longer, whenever it was made."""
MOST_GROWTH = 2.0
SPARE_BYTES = 192 * 2**20
"""Of programs, threads and free lists, whatever the size of a body."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("clocks"), body_bytes=BODY_BYTES) as running:
        measure(running, ATTACKS[0], body_bytes=BODY_BYTES, seconds=1)
        yield running


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nobody_else_waits_for_a_dear_request(server, attack):
    for _ in range(TRIES):
        seen = measure(server, attack, body_bytes=BODY_BYTES)
        assert seen.statuses == ((attack.status,) if seen.requests else ()), seen.told
        if max(seen.health.max_s, seen.token.max_s) < MOST_S:
            break
    assert seen.health.max_s < MOST_S
    assert seen.token.max_s < MOST_S
    assert seen.grown_bytes < MOST_GROWTH * (seen.body_bytes + seen.answer_bytes) + SPARE_BYTES


class Halting(http.server.BaseHTTPRequestHandler):
    """A server that stops once for a while, in the middle of each stream."""

    halt_s = 0.4
    halted = threading.Semaphore(0)
    running = threading.Event()
    running.set()

    def do_GET(self):
        self.running.wait()
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        for event in range(5):
            if event == 3:
                self.running.clear()
                time.sleep(self.halt_s)
                self.running.set()
            self.wfile.write(b'data: {"choices": [{"text": "a"}]}\n\n')
            self.wfile.flush()
            if event == 3:
                self.halted.release()

    def log_message(self, format, *args):
        pass


def test_the_stopwatches_tell_of_a_server_that_stops():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Halting) as halting:
        thread = threading.Thread(target=halting.serve_forever)
        thread.start()
        began_s = time.monotonic()
        with watched(f"http://127.0.0.1:{halting.server_port}", process=os.getpid(), stream={}, key="k") as waits:
            assert all(Halting.halted.acquire(timeout=60) for _ in range(3))
        took_s = time.monotonic() - began_s
        halting.shutdown()
        thread.join()
    assert Halting.halt_s <= max(waits.token_s) <= took_s
    assert 0.5 * Halting.halt_s <= max(waits.health_s) <= took_s
    assert quantile(waits.token_s, 50) < 0.5 * Halting.halt_s
