<<<<<<< HEAD
"""Places that cannot be written are found before the work whose result they are for."""
=======
"""Files are replaced whole, and nothing that is not ours is."""
>>>>>>> 93d9f1d (A resumed batch cuts off a torn line of its own only; the input, and files of others, are no output)

import os
from pathlib import Path

import pytest

from muxjax.errors import ConfigError
<<<<<<< HEAD
from muxjax.server.build import check_cache_folder
from muxjax.server.telemetry.trace import TraceFile
from muxjax.whole_file import keeps_files, require_writable

AS_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    tmp_path.joinpath("there").write_text("kept")
    for name in ("there", "new"):
        require_writable(tmp_path / name, field="output")
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and tmp_path.joinpath("there").read_text() == "kept"


@pytest.mark.parametrize("place", ["", "no/folder.json", "file/x.json", "x" * 300, "a\0b", "/proc/x.json"])
def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path, place):
    tmp_path.joinpath("file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written") as refused:
        require_writable(tmp_path / place, field="output")
    assert refused.value.field == "output"


@AS_ROOT
def test_a_folder_without_permission_is_told_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        require_writable(tmp_path / "x", field="output")


def test_a_cache_folder_is_made(tmp_path):
    assert keeps_files(str(tmp_path / "a/b"), field="f") and list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("folder", ["file", "file/below", "a\0b", "x" * 300])
def test_a_cache_that_is_no_folder_is_refused_before_models_are_read(tmp_path, folder):
    tmp_path.joinpath("file").write_text("")
    with pytest.raises(ConfigError, match="is no folder") as refused:
        check_cache_folder(str(tmp_path / folder))
    assert refused.value.field == "compilation_cache_dir"


def test_a_cache_that_cannot_be_written_is_one_warning(caplog):
    check_cache_folder("/proc/cache")
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "/proc/cache" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_trace_on_a_full_disk_is_told_at_the_start():
    with pytest.raises(ConfigError, match="cannot write the trace /dev/full: No space left"):
        TraceFile(Path("/dev/full"))
=======
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
>>>>>>> 93d9f1d (A resumed batch cuts off a torn line of its own only; the input, and files of others, are no output)
