"""Places that cannot be written are found before the work whose result they are for."""

import os
from pathlib import Path

import pytest

from muxjax.errors import ConfigError
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
