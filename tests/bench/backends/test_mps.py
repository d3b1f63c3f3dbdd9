"""MPS, by a program that stands for NVIDIA's: a daemon of our own, who is attached to it, and its end."""

import os
import stat
from pathlib import Path

import pytest

from muxjax.bench.backends import mps
from muxjax.bench.backends.running import serving
from muxjax.errors import ConfigError
from tests.bench.backends.kit import failing, fleet

CONTROL = """#!/bin/sh
cd {folder}
if [ "$1" = -d ]; then
    echo "daemon $CUDA_MPS_PIPE_DIRECTORY" >> heard
    [ -e refuses ] && echo "no GPU" >&2 && exit 1
    sleep 1000 &  # it keeps what it was given to write to
    echo $! > daemon
    exit 0
fi
read question
echo "$question $CUDA_MPS_PIPE_DIRECTORY" >> heard
case "$question" in
    get_server_list) echo 4711;;
    "get_client_list 4711") cat clients;;
    quit) kill $(cat daemon);;
esac
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """The folder in which the program writes down what it heard."""
    program = tmp_path / "bin" / mps.CONTROL
    program.parent.mkdir()
    program.write_text(CONTROL.format(folder=tmp_path))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "clients").write_text("")
    return tmp_path


def test_a_daemon_has_folders_of_its_own_and_is_told_to_quit(control):
    (control / "clients").write_text("12\n34\nno number\n")
    with mps.daemon() as variables:
        pipes = Path(variables[mps.PIPES])
        assert pipes.is_dir() and Path(variables[mps.LOGS]).is_dir()
        assert mps.attached(variables) == {12, 34}
    heard = (control / "heard").read_text().splitlines()
    assert heard == [f"{word} {pipes}" for word in ("daemon", "get_server_list", "get_client_list 4711", "quit")]
    assert not pipes.exists()


def test_a_daemon_that_does_not_start_says_why(control):
    (control / "refuses").touch()
    with pytest.raises(ConfigError, match="MPS does not start: no GPU"), mps.daemon():
        pass


def test_without_mps_it_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="is not on PATH"), mps.daemon():
        pass


def test_strangers_are_groups_without_a_client():
    assert mps.strangers([[1, 2], [3], [4]], {2, 4, 9}) == 1


def test_servers_get_the_daemons_folders_and_those_that_are_not_attached_are_counted(control, tmp_path):
    backend = failing("", "textless", mps=True)
    with serving(backend, fleet(), tmp_path) as running:
        assert running.unattached == 2
        environment = Path(f"/proc/{running.processes[0].process.pid}/environ").read_bytes().decode()
        assert f"{mps.PIPES}=" in environment and "muxjax-mps-" in environment
    assert (control / "heard").read_text().splitlines()[-1].startswith("quit")


def test_one_server_alone_needs_no_mps(tmp_path):
    with serving(failing("", mps=True), fleet(), tmp_path) as running:
        assert running.unattached == 0
