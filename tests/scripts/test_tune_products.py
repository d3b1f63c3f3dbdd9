"""Choices of kernels are archived as the package's are, the same from the same choices, after the most useful steps were tuned first."""

import os
import zipfile
from pathlib import Path

from muxjax.device.programs import tuning
from scripts.tune_products import ORDER, archive, useful_first

SHIPPED = Path(tuning.__file__).with_name("tuned-h200.zip")


def test_an_archive_of_what_the_package_brings_holds_the_same_and_its_bytes_know_no_time(tmp_path):
    choices = tuning.folder(tmp_path, "NVIDIA H200")
    assert choices
    (choices / "tmp").mkdir()  # of XLA, which writes there first
    (choices / "tmp" / "part").write_bytes(b"half")
    archive(choices, tmp_path / "deep" / "one.zip")
    for path in choices.glob("*/*.pb"):
        os.utime(path, (1e9, 1e9))
    archive(choices, tmp_path / "two.zip")

    assert (tmp_path / "deep" / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(SHIPPED) as shipped, zipfile.ZipFile(tmp_path / "two.zip") as made:
        assert made.namelist() == sorted(shipped.namelist())
        assert all(made.read(name) == shipped.read(name) for name in shipped.namelist())


def test_the_most_useful_steps_are_tuned_first_and_all_are():
    others = [("1b", 8), ("3b", 32)]

    assert useful_first([*others, *reversed(ORDER)]) == [*ORDER, *others]
    assert useful_first([("1b", 8), ("1b", 24), ("8b", 16)]) == [("8b", 16), ("1b", 24), ("1b", 8)]
