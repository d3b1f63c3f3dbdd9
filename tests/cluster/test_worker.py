"""What a worker says before it serves."""

import socket
import threading

from muxjax.cluster import worker
from muxjax.cluster.wire.frames import UnixAddress, frame, received
from muxjax.cluster.wire.messages import PROTOCOL, Hello, Report, encode, from_worker
from muxjax.cluster.worker import Worker
from muxjax.errors import ConfigError
from tests.cluster.kit import unit

WAIT_S = 30


def test_a_start_that_takes_long_says_what_it_is_at_and_ends_if_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "SAY_S", 0.3)
    said, listening = threading.Event(), threading.Event()

    def build(options, report, doing):
        doing("programs: 1 of 3")
        said.wait(WAIT_S)
        raise ConfigError("enough")

    address = UnixAddress(tmp_path / "one.sock")
    thread = threading.Thread(target=Worker(build).run, args=(address, lambda listener: listening.set()), daemon=True)
    thread.start()
    assert listening.wait(WAIT_S)
    with socket.socket(socket.AF_UNIX) as front:
        front.settimeout(WAIT_S)
        front.connect(str(address.path))
        front.sendall(frame(encode(Hello(PROTOCOL, "x", unit("0", "a").options))))
        heard = map(from_worker, received(front))
        first, *lines = [next(message.line for message in heard if isinstance(message, Report)) for _ in range(3)]
    said.set()  # the start fails, and nobody is there
    thread.join(WAIT_S)
    assert (
        not thread.is_alive()
        and first == "starting: programs: 1 of 3"
        and all(line.startswith("programs: 1 of 3, after ") for line in lines)
    )
