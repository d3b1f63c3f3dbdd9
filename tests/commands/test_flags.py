"""Flags say what the options' classes hold, and give it back."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

import muxjax
from muxjax.__main__ import main
from muxjax.commands import serve_flags
from muxjax.commands.flags import add_fields, defaults_of, one_of, read_fields, seconds, with_default
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.server.config import load_options


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    limit_s: float = 2.5
    sizes: tuple[int, ...] = (1, 8)
    file: Path | None = None


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser()
    add_fields(flags, Options, {"limit_s": "seconds", "sizes": "of each", "file": "to write"})
    return flags


def test_a_line_without_flags_is_the_defaults_of_the_class():
    assert read_fields(Options, parser().parse_args([])) == Options()


def test_flags_have_the_types_of_their_fields():
    options = read_fields(Options, parser().parse_args(["--limit", "3", "--sizes", "2", "4", "--file", "a.json"]))
    assert (options.limit_s, list(options.sizes), options.file) == (3.0, [2, 4], Path("a.json"))


@pytest.mark.parametrize(
    ("default", "text"),
    [(None, "x"), ("", "x"), (False, "x"), (True, "x (the default)"), (30.0, "x (30)"), (0, "x (0)"), ((1, 8), "x (1 8)")],
)
def test_a_default_is_told_where_it_is_a_value(default, text):
    assert with_default("x", default) == text


def test_names_are_listed_as_a_sentence_has_them():
    assert one_of(("a", "b", "c")) == "a, b or c"


def test_help_of_serve_has_the_defaults_that_an_option_left_out_gets(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    defaults = defaults_of(UnitOptions, ModelOptions)
    assert f"one prefill step ({defaults['max_num_batched_tokens']})" in said
    assert f"for every model ({defaults['max_num_seqs']})" in said
    assert f"is stuck ({defaults['step_timeout_s']:g})" in said


def test_every_flag_of_serve_is_a_setting_that_the_server_knows(tmp_path):
    names = [*serve_flags.UNIT, *serve_flags.HTTP]
    known = [name for name in names if "no known key" not in refusal(tmp_path, name)]
    assert known == names
    assert "no known key" in refusal(tmp_path, "hosts")


def refusal(tmp_path, name: str) -> str:
    """What the server says of a value that no setting accepts."""
    try:
        load_options([f"a={tmp_path}"], {name: "\0"})
    except ConfigError as error:
        return str(error)
    return ""


def test_keys_of_the_environment_stand_for_flags():
    assert serve_flags.secrets({"MUXJAX_API_KEY": "k", "HOME": "/"}) == {"api_key": "k"}


@pytest.mark.parametrize("variable", ["MUXJAX_API_KEY", "MUXJAX_ADMIN_KEY"])
@pytest.mark.parametrize("key", ["", " ", "k\n", "a\0b"])
def test_a_key_of_the_environment_that_is_empty_or_torn_opens_no_server(variable, key):
    with pytest.raises(ConfigError, match=f"^{variable} must be a key that is not empty"):
        serve_flags.secrets({variable: key})


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.strip() == f"muxjax {muxjax.__version__}"


@pytest.mark.parametrize("text, wanted", [("90", 90.0), ("1.5", 1.5), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0)])
def test_times_are_seconds_or_say_their_unit(text, wanted):
    assert seconds(text) == wanted


def test_a_time_that_is_none_is_told():
    with pytest.raises(argparse.ArgumentTypeError, match="'soon'"):
        seconds("soon")
