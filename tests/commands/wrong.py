"""Wrong values by kind, and how a command is to end with them."""

import signal
from pathlib import Path

from muxjax.__main__ import main

MOST_S = 60
"""Of an input, on a machine with other things to do; the endless ones took minutes."""
PROBLEM = "cluster: {chip: H200, nodes: 1, devices_per_node: 1}\nmodels:\n  - {name: a, shape: llama-3.2-1b, rate: 1}\n"
PLACEMENT = {
    "muxjax_placement": 1,
    "units": [{"devices": 1, "members": [{"model": "a", "rate_rps": 1.0, "devices": [0], "sm_share": 1.0}]}],
}
NO_NUMBER = ["x", "", "nan", "1e999", "-1", "9" * 5000, "1\n2", "\0", "٣x"]
NO_COUNT = [*NO_NUMBER, "1.5", str(2**70), "0"]
NO_NAME = ["", "x", "\0", "a\nb", "x" * 5000, "ключ"]
NO_FILE = ["", "/no/folder/here", "a\0b", "x" * 5000, "/dev/zero", ".", "problem.yaml/x"]
NO_TARGET = ["", ".", "/no/folder/o.json", "a\0b", "x" * 5000, "problem.yaml/o.json", "/proc/o.json", "problem.yaml", "notes.txt"]
NO_HOST = ["", "\0", "a\nb", "x" * 5000, "a\tb"]
NO_KEY = ["", " ", "\0", "a\nb", " a"]
NO_URL = [
    "",
    "x",
    "ftp://x",
    "http://",
    "http://[::1",
    "http://h:x",
    "http://h:99999",
    "http://a b",
    "http://a\n",
    "http://é",
    "http://" + "x" * 300,
]
NO_SIZE = ["x", "", "0", "-1", "1e9", "nan", "9" * 400, "9" * 20 + "T", "\0", "1XB"]

NO_VALUES = {
    "a list": "[[1]]",
    "keys": "{a: {b: 1}}",
    "nothing": "",
    "a date that is none": "2026-13-41",
    "a tag": "!!int x",
    "a NUL": '"a\\0b"',
}
"""YAML that no option takes."""

SIMULATE, PLACE = ("simulate", "problem.yaml", "placement.json"), ("place", "problem.yaml")
SERVE, BATCH = ("serve", "a=model"), ("run-batch", "a=model", "-i", "in.jsonl", "-o", "out.jsonl")
PROFILE = ("profile", "llama-3.2-1b", "-o", "costs.json")


class Endless(BaseException):
    """What takes longer than it may."""


def fails(capsys, *arguments: str, status: int = 2) -> str:
    """The one line that a command ends with, in time, having changed no file."""

    def stop(*_):
        raise Endless(f"not done in {MOST_S} s: {arguments!r:.300}")

    assert not Path("pyproject.toml").exists(), "other tests write to the tree: use the fixture own_folder or folder"
    before = contents()
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_S)
    try:
        ended = main(arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    told = capsys.readouterr()
    assert ended == status, (arguments, told)
    assert told.err.count("\n") == 1 and told.err.startswith("muxjax: ") and len(told.err) < 2100, told.err
    assert not told.out
    assert contents() == before
    return told.err


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}
