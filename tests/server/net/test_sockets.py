"""Ports are found to be in use before models load, and are kept until they are served."""

import contextlib
import socket
import time

import pytest

from muxjax.__main__ import main
from muxjax.errors import ConfigError
from muxjax.server.config import HttpOptions
from muxjax.server.net.sockets import bound, listen


@contextlib.contextmanager
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def port_of(sockets) -> int:
    return sockets.public[0].getsockname()[1]


def test_a_port_that_is_bound_and_not_yet_served_is_nobody_elses():
    with bound(HttpOptions(port=0)) as first:
        port = port_of(first)
        with (
            pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"),
            bound(HttpOptions(port=port)),
        ):
            pass


def test_until_models_are_loaded_clients_are_refused():
    with bound(HttpOptions(port=0)) as sockets, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port_of(sockets)))


def test_a_restart_does_not_wait_for_the_connections_of_the_last_run():
    with bound(HttpOptions(port=0)) as sockets:
        port = port_of(sockets)
        listen(sockets.public[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            sockets.public[0].setblocking(True)
            accepted, _ = sockets.public[0].accept()
            accepted.close()  # first, so that the port is what waits
            assert client.recv(1) == b""
    with bound(HttpOptions(port=port)) as sockets:
        assert port_of(sockets) == port


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a\0b", "x" * 250, "..", "203.0.113.7"])
def test_a_host_that_is_not_here_is_named(host):
    with pytest.raises(ConfigError, match="cannot listen on") as refused, bound(HttpOptions(host=host, port=0)):
        pass
    assert refused.value.field == "port" and "\0" not in str(refused.value) and len(str(refused.value)) < 500


def test_all_addresses_of_a_host_have_one_port():
    with bound(HttpOptions(host="localhost", port=0)) as sockets:
        assert len({one.getsockname()[1] for one in sockets.public}) == 1


def test_a_taken_port_ends_the_command_before_any_model_is_read(capsys, tmp_path):
    with taken() as port:
        began_s = time.monotonic()
        assert main(["serve", f"a={tmp_path}", "--port", str(port)]) == 2
        assert main(["serve", f"a={tmp_path}", "--port", "0", "--admin-port", str(port), "--admin-key", "k"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"muxjax: cannot listen on 127.0.0.1 port {port}: Address already in use"] * 2
    assert time.monotonic() - began_s < 60
