import asyncio
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cluster.wire.frames import MOST_FRAME_BYTES, Frames, TcpAddress, UnixAddress, WireError, challenge, frame, listen
from muxjax.cluster.wire.link import Link
from muxjax.errors import ConfigError
from tests.cluster.kit import unit


@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(0, 60), max_size=12))
def test_a_stream_cut_anywhere_is_the_same_messages(messages, cuts):
    stream, frames, found, at = b"".join(map(frame, messages)), Frames(), [], 0
    for cut in [*cuts, len(stream)]:
        found += frames.feed(stream[at : at + cut])
        at += cut
    assert found == messages


def test_a_message_too_long_is_refused_before_it_is_there():
    with pytest.raises(WireError, match="a message of"):
        list(Frames().feed((MOST_FRAME_BYTES + 1).to_bytes(4, "little")))


def test_a_socket_left_behind_is_taken_over(tmp_path):
    address = UnixAddress(tmp_path / "deep" / "one.sock")
    listen(address).close()
    with listen(address) as listener:
        assert listener.family == socket.AF_UNIX
        assert address.path.stat().st_mode & 0o077 == 0


def test_a_port_in_use_is_a_config_error():
    with listen(TcpAddress("127.0.0.1", 0, b"key")) as listener, pytest.raises(ConfigError, match="cannot listen"):
        listen(TcpAddress("127.0.0.1", listener.getsockname()[1], b"key"))


@pytest.mark.parametrize(("key", "enters"), [(b"the right key", True), (b"another key", False)])
def test_only_who_has_the_key_gets_in(key, enters):
    with listen(TcpAddress("127.0.0.1", 0, b"the right key")) as listener:
        result: list[bool] = []

        def answer() -> None:
            stream, _ = listener.accept()
            with stream:
                try:
                    challenge(stream, b"the right key")
                    result.append(True)
                except WireError:
                    result.append(False)

        thread = threading.Thread(target=answer)
        thread.start()
        address = TcpAddress("127.0.0.1", listener.getsockname()[1], key)

        async def connect() -> None:
            link = await Link.to(address, unit("0", "a").options, lambda message: None, lambda: None)
            link.close()

        if enters:
            asyncio.run(connect())
        else:
            with pytest.raises((WireError, OSError)):
                asyncio.run(connect())
        thread.join()
        assert result == [enters]
