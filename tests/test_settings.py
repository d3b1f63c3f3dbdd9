"""Settings keep the place where they were written, and become the types of their fields."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from muxjax.errors import ConfigError, require
from muxjax.settings import Setting, build, child, names, read_yaml, section


@dataclass(frozen=True, kw_only=True)
class Inner:
    size_bytes: int
    depth: int = 2

    def __post_init__(self):
        require(self.depth > 0, "depth", self.depth, "over 0")


@dataclass(frozen=True, kw_only=True)
class Options:
    count: int
    size_bytes: int = 1
    ratio: float | None = None
    folder: Path | None = None
    tags: tuple[str, ...] = ()
    inner: Inner | None = None


def read(path: Path) -> Options:
    return read_yaml(path, lambda loader, node: build(Options, section(loader, path, child(node, "options"), names(Options))))


def test_values_are_read_in_their_fields_types(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("options:\n  count: 3\n  size-bytes: 2KiB\n  ratio: 1\n  folder: sub/x\n  tags: [a, b]\n")
    assert read(path) == Options(count=3, size_bytes=2048, ratio=1.0, folder=tmp_path / "sub/x", tags=("a", "b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("options:\n  count: x\n", r"a\.yaml:2: count must be an integer, got 'x'"),
        ("options:\n  ratio: 1\n", r"a\.yaml:2: ratio: needs count too"),
        ("options:\n  count: 1\n  ratoi: 1\n", r"a\.yaml:3: ratoi is no known key; did you mean ratio"),
        ("options:\n  count: 1\n  inner: {size_bytes: 1, depth: 0}\n", r"a\.yaml:3: inner: depth must be over 0, got 0"),
        ("options:\n  count: 1\n  inner: {size_bytes: 1, dept: 3}\n", r"a\.yaml:3: inner: dept is no known key; did you mean depth"),
        ("options:\n  count: 1\n  inner: {depth: 3}\n", r"a\.yaml:3: inner: depth: needs size_bytes too"),
        ("options:\n  count: 1\n  inner: {}\n", r"a\.yaml:3: inner: needs size_bytes too"),
        ("options:\n  count: 1\n  inner: [1]\n", r"a\.yaml:3: inner must be keys with values, such as {size_bytes: \.\.\.}, got"),
        ("options: 3\n", r"a\.yaml:1: expected keys with values"),
        ("options: [\n", r"cannot read .*a\.yaml"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "a.yaml")


@pytest.mark.parametrize("value", [{"size-bytes": "2KiB"}, "{size_bytes: 2KiB}", '{"size_bytes": 2048}', Inner(size_bytes=2048)])
def test_an_object_may_be_keys_with_values_a_text_of_them_or_be_there_already(value):
    own = build(Options, {"count": Setting(1, "--count"), "inner": Setting(value, "--inner")})
    assert own == Options(count=1, inner=Inner(size_bytes=2048))


@pytest.mark.parametrize("value", ["ngram", "{", "3", ""])
def test_a_text_of_anything_else_is_refused_by_its_flag(value):
    with pytest.raises(ConfigError, match=r"^--inner must be keys with values"):
        build(Options, {"count": Setting(1, "--count"), "inner": Setting(value, "--inner")})
