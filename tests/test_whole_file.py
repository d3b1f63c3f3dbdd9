"""Files are replaced whole, and nothing that is not ours is."""

import os
from pathlib import Path

import pytest

from muxjax.errors import ConfigError
from muxjax.whole_file import read_whole, require_writable, whole_file


def write(path: Path, text: str = "new") -> None:
    with whole_file(path, field="output") as file:
        file.write(text)


def test_a_file_is_replaced_at_the_end_or_stays(tmp_path):
    path = tmp_path / "a"
    write(path, "old")
    with pytest.raises(KeyError), whole_file(path, field="output") as file:
        file.write("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.read_text() == "new"


def test_what_a_link_names_is_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    require_writable(tmp_path / "pipe", field="output", begins=[b"{"])
    write(tmp_path / "pipe")
    assert os.read(reading, 9) == b"new" and (tmp_path / "pipe").is_fifo()
    os.close(reading)


def test_a_device_that_is_full_is_told(tmp_path):
    with pytest.raises(ConfigError, match="/dev/full cannot be written: No space left on device"):
        write(Path("/dev/full"))


@pytest.mark.parametrize("text", ["", '{"ours": 1}', '{\n "ours": 2'])
def test_files_of_ours_may_be_written_over(tmp_path, text):
    (tmp_path / "a").write_text(text)
    require_writable(tmp_path / "a", field="output", begins=[b'{"ours"'])
    assert (tmp_path / "a").read_text() == text and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["thesis", '{"theirs": 1}', "{", "[1]"])
def test_other_files_may_not(tmp_path, text):
    (tmp_path / "a").write_text(text)
    with pytest.raises(ConfigError, match="holds something else; name another file"):
        require_writable(tmp_path / "a", field="output", begins=[b'{"ours"'])
    assert (tmp_path / "a").read_text() == text


def test_a_file_is_read_up_to_a_limit(tmp_path):
    (tmp_path / "a").write_text("12345")
    assert read_whole(tmp_path / "a", most_bytes=5) == "12345"
    for path in (tmp_path / "a", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="holds more than 4 B"):
            read_whole(path, most_bytes=4)
