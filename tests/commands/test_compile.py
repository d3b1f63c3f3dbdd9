"""`muxjax compile` leaves nothing to be compiled by a start with the same options, and compiles nothing twice."""

import pytest

from muxjax.__main__ import main
from muxjax.device.programs.store import ProgramStore
from muxjax.model_spec import ModelSpec
from muxjax.specs.dummy import write_dummy_models

TINY = ModelSpec(vocab=64, width=32, layers=1, heads=2, kv_heads=2, head_dim=16, ffn=48, max_len=64, windows=(None,), dtype="float32")


@pytest.fixture
def arguments(tmp_path) -> list[str]:
    """A model without weights, and what is to be served of it."""
    write_dummy_models(tmp_path, {"m": TINY})
    options = "--load-format dummy --max-num-seqs 8 --max-num-batched-tokens 16 --kv-cache-size 1MiB --compilation-cache-dir".split()
    return [f"m={tmp_path / 'm'}", *options, str(tmp_path / "programs")]


def test_what_was_compiled_ahead_is_all_that_a_start_needs(arguments, tmp_path, capsys, monkeypatch):
    from muxjax.commands import serve_flags
    from muxjax.device.programs.compiler import Compiler
    from muxjax.launch.worker import start_worker
    from muxjax.progress import Progress
    from muxjax.server.config import load_options

    assert main(["compile", *arguments]) == 0
    files = list((tmp_path / "programs").rglob("*.program"))
    said, followed = capsys.readouterr()
    assert f"compiling: {len(files)}\n" in followed and "\r" not in followed  # no bar where nobody looks
    assert said.startswith(f"{len(files)} programs, ") and f"in {tmp_path / 'programs'}; {len(files)} compiled now" in said

    def never(self, source):
        raise AssertionError(f"{source} was missing")

    monkeypatch.setattr(Compiler, "compile", never)
    settings = {name.replace("-", "_")[2:]: value for name, value in zip(arguments[1::2], arguments[2::2], strict=True)}
    assert set(settings) <= set(serve_flags.UNIT)
    unit, *_ = load_options(arguments[:1], settings | {"wait_for_all": True})
    worker = start_worker(unit, Progress(bars=False))
    ready, everything, failed = worker.control.progress()["m"]
    worker.control.close()
    assert ready == everything > 2 and not failed

    path = files[0]
    path.write_bytes(path.read_bytes()[:-1])
    before = {file: file.stat().st_mtime_ns for file in files}
    assert main(["compile", *arguments]) == 0
    assert "; 1 compiled now" in capsys.readouterr().out
    assert [file for file in files if file.stat().st_mtime_ns != before[file]] == [path]
    assert main(["compile", *arguments]) == 0
    assert "; nothing was missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--chip", "abacus"], "chip must be one of H200, got 'abacus'"),
        (["--tune"], "tune needs a GPU to try kernels on, and JAX sees cpu"),
        (["--tune", "--chip", "h200"], "tune tries kernels on the GPU at hand, so chip must not be given, got 'h200'"),
        (["--compilation-cache-dir", ""], "compilation_cache_dir must be a folder that can be written to"),
        (["--memory-size", "1GiB"], None),
    ],
)
def test_what_cannot_be_compiled_is_told_in_a_line(arguments, capsys, monkeypatch, changes, told):
    monkeypatch.setattr(ProgramStore, "kept_bytes", lambda self, source: 1)  # nothing is to be compiled
    status = main(["compile", *arguments, *changes])

    lines = capsys.readouterr().err.splitlines()
    assert (status == 0) == (told is None)
    assert told is None or (status == 2 and told in lines[-1])


def test_the_size_of_the_cache_must_be_named_where_it_depends_on_the_device(arguments, capsys):
    without = [argument for argument in arguments if argument not in ("--kv-cache-size", "1MiB")]

    assert main(["compile", *without, "--memory-size", "1GiB"]) == 2
    assert "kv_cache_size must be given" in capsys.readouterr().err


def test_it_says_for_how_many_steps_kernels_were_tried(arguments, capsys, monkeypatch):
    from muxjax.device.programs.filling import Filling

    monkeypatch.setattr(ProgramStore, "kept_bytes", lambda self, source: 1)
    monkeypatch.setattr(Filling, "tune", lambda self, sources: ((source, True) for source in sources))

    assert main(["compile", *arguments, "--tune"]) == 0
    assert capsys.readouterr().out.startswith("kernels tried for 1 steps\n")


def test_what_was_tuned_before_an_interruption_is_kept_and_it_is_told_in_a_line(arguments, capsys, monkeypatch):
    from muxjax.device.programs.filling import Filling

    def interrupted(self, sources):
        yield sources[0], True
        raise KeyboardInterrupt

    monkeypatch.setattr(Filling, "tune", interrupted)

    assert main(["compile", *arguments, "--tune"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "muxjax: interrupted"
