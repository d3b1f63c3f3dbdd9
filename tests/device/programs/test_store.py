"""Programs are found again by what they were made of; what is not theirs is refused, told once, and compiled."""

import errno
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from muxjax.device.programs.store import ProgramStore, without_jax_cache
from tests.programs import with_jax_cache

DEVICES = (jax.devices("cpu")[0],)
SOURCE = "double of 4 numbers"


def compiled():
    return jax.jit(lambda x: {"twice": 2 * x}).lower(jax.ShapeDtypeStruct((4,), jnp.float32)).compile()


@pytest.fixture
def store(tmp_path):
    return ProgramStore(tmp_path / "store", "here")


@pytest.fixture
def kept(store) -> Path:
    """The file of a program that was kept."""
    store.keep(SOURCE, compiled())
    path = store.path(SOURCE)
    assert path is not None and path.exists()
    return path


def test_a_kept_program_computes_the_same(store, kept):
    program = store.load(SOURCE, DEVICES)

    assert program is not None
    assert program(jnp.arange(4.0))["twice"].tolist() == [0, 2, 4, 6]


def test_a_program_that_jax_had_read_from_its_own_cache_is_kept_with_its_kernels(store):
    """XLA for CPU serializes one that was read without them; JAX hands out again what it has in memory."""

    def sort():
        return jax.jit(jnp.sort).lower(jax.ShapeDtypeStruct((64,), jnp.float32)).compile()

    with_jax_cache()
    for _ in range(2):  # made or read, then read in any case
        jax.clear_caches()
        sort()
    without_jax_cache()

    store.keep(SOURCE, sort())
    program = store.load(SOURCE, DEVICES)

    assert program is not None
    assert program(-jnp.arange(64.0)).tolist() == list(range(-63, 1))


def test_nothing_is_found_of_another_source_or_environment(store, kept, tmp_path):
    assert store.load("treble of 4 numbers", DEVICES) is None
    assert ProgramStore(tmp_path / "store", "there").load(SOURCE, DEVICES) is None


def test_a_store_without_a_folder_keeps_nothing():
    store = ProgramStore(None, "here")
    store.keep(SOURCE, compiled())

    assert store.load(SOURCE, DEVICES) is None


def damaged(content: bytes) -> dict[str, bytes]:
    header, _, payload = content.partition(b"\n")
    fields = json.loads(header)
    return {
        "empty": b"",
        "no header": payload,
        "a header that is a list": b"[]\n" + payload,
        "cut": content[:-100],
        "a header alone": header,
        "one bit": content[:-1] + bytes([content[-1] ^ 1]),
        "other format": json.dumps(fields | {"format": 0}).encode() + b"\n" + payload,
        "other source": json.dumps(fields | {"source": "treble"}).encode() + b"\n" + payload,
        "other environment": json.dumps(fields | {"environment": "there"}).encode() + b"\n" + payload,
        "a very long line": b"x" * 2**20,
    }


@pytest.mark.parametrize("kind", list(damaged(b'{"format": 1, "source": "", "environment": ""}\nx')))
def test_a_damaged_file_is_refused_and_told(store, kept, kind, caplog):
    kept.write_bytes(damaged(kept.read_bytes())[kind])

    with caplog.at_level(logging.WARNING):
        assert store.load(SOURCE, DEVICES) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(kept) in caplog.text


def test_a_payload_that_is_whole_but_no_program_is_refused(store, kept):
    payload = pickle.dumps(("no executable", None, None))
    kept.write_bytes(store._header(SOURCE, payload) + payload)

    assert store.load(SOURCE, DEVICES) is None


def test_a_file_that_others_could_have_written_is_not_unpickled(store, kept):
    kept.chmod(0o666)

    assert store.load(SOURCE, DEVICES) is None
    kept.chmod(0o644)
    assert store.load(SOURCE, DEVICES) is not None


def test_trouble_is_told_once_a_kind(store, caplog):
    for i in range(5):
        store.keep(f"{SOURCE} {i}", compiled())
        path = store.path(f"{SOURCE} {i}")
        path.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert [store.load(f"{SOURCE} {i}", DEVICES) for i in range(5)] == [None] * 5
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_to_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = ProgramStore(tmp_path / "file", "here")

    with caplog.at_level(logging.WARNING):
        store.keep(SOURCE, compiled())
        store.keep(SOURCE, compiled())
    assert len(caplog.records) == 1 and "cannot be written" in caplog.text


def test_a_full_disk_costs_a_warning_and_leaves_nothing(store, monkeypatch, caplog):
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *arguments: real("/dev/full", os.O_WRONLY))
    with caplog.at_level(logging.WARNING):
        store.keep(SOURCE, compiled())

    assert "No space left" in caplog.text
    assert not list(store.path(SOURCE).parent.iterdir())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_only_be_read_serves_what_it_holds(store, kept, monkeypatch, caplog, code):
    def refused(path, *arguments):
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "open", refused)
    with caplog.at_level(logging.WARNING):
        store.keep("treble of 4 numbers", compiled())

    assert store.load(SOURCE, DEVICES) is not None
    assert [record.levelname for record in caplog.records] == ["WARNING"] and os.strerror(code) in caplog.text


def test_a_file_that_may_not_be_read_costs_a_warning(store, kept, monkeypatch, caplog):
    def refused(path, *arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refused)
    with caplog.at_level(logging.WARNING):
        assert store.load(SOURCE, DEVICES) is None
    assert "Permission denied" in caplog.text


def test_a_folder_in_place_of_a_program_costs_a_warning(store, kept, caplog):
    kept.unlink()
    kept.mkdir()

    with caplog.at_level(logging.WARNING):
        assert store.load(SOURCE, DEVICES) is None
        store.keep(SOURCE, compiled())
    assert "directory" in caplog.text


def test_a_kill_while_writing_leaves_a_store_that_works(store, kept, tmp_path):
    """The writer stops for good in the middle of the file: what was there before is found."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from muxjax.device.programs import store\n"
        "real = os.fdopen\n"
        "def killed(*arguments):\n"
        "    file = real(*arguments)\n"
        "    file.write(b'x' * 100_000); file.flush()\n"
        "    os.kill(os.getpid(), 9)\n"
        "os.fdopen = killed\n"
        "store._write_whole(Path(sys.argv[1]), b'never')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(kept)], env=os.environ, capture_output=True)

    assert ran.returncode == -9
    assert store.load(SOURCE, DEVICES) is not None


def test_two_writers_of_one_program_leave_one_of_them(store, kept):
    store.keep(SOURCE, compiled())

    assert store.load(SOURCE, DEVICES) is not None
    assert len(list(kept.parent.iterdir())) == 1
