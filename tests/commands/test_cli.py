"""The command line as a whole: its help, its examples, and what completes it."""

import argparse
import re
import shlex
import shutil
import subprocess

import pytest

from muxjax import __main__
from muxjax.__main__ import main


def parsers(parser: argparse.ArgumentParser, name: str = "muxjax"):
    """Every command with its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, own in action.choices.items():
                yield f"{name} {command}", own
                yield from parsers(own, f"{name} {command}")


COMMANDS = dict(parsers(__main__._parser()))


def examples(parser: argparse.ArgumentParser) -> list[str]:
    return [line.strip() for line in (parser.epilog or "").splitlines()[1:]]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_it_understands(name):
    lines = examples(COMMANDS[name])
    assert lines
    for line in lines:
        words = shlex.split(re.split(r" > | # ", line.rpartition("| ")[2])[0])
        words = words[next(i for i, word in enumerate(words) if word == "muxjax") + 1 :]
        assert __main__._parser().parse_args(words).command, line


@pytest.mark.parametrize("name", COMMANDS)
def test_no_flag_wants_just_a_value(name):
    flags = [action for action in COMMANDS[name]._actions if action.option_strings and action.nargs != 0]
    assert [action.option_strings[0] for action in flags if action.metavar == "VALUE"] == []


def test_help_lists_all_commands_by_what_they_are_for(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    listed = re.findall(r"^    ([a-z-]+)  +\w", said, re.MULTILINE)
    assert set(listed) == {name.split()[1] for name in COMMANDS}
    assert len(listed) == len(set(listed))
    assert re.findall(r"^([a-z ]+):$", said, re.MULTILINE)[:2] == ["serving", "talking to a server"]


def test_flags_of_serve_stand_in_groups(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = capsys.readouterr().out
    groups = re.findall(r"^([a-z ]+):$", said, re.MULTILINE)
    assert {"models", "devices and memory", "endpoint", "administration", "several units", "checking"} <= set(groups)
    assert re.search(r"--policy NAME +adbs, mux, round_robin or fcfs \(mux where there are\n +lanes, else adbs\)", said)
    assert re.search(r"--kv-cache-size SIZE\n? +size of the shared cache", said)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_completes_commands_and_flags(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "kv-cache-size" in script and "run-batch" in script and "throughput" in script


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_what_is_typed(capsys, tmp_path):
    main(["completion", "bash"])
    (tmp_path / "muxjax.bash").write_text(capsys.readouterr().out)
    typed = "COMP_WORDS=(muxjax ser); COMP_CWORD=1; _shtab_muxjax muxjax ser muxjax; echo ${COMPREPLY[@]}"
    command = ["bash", "-c", f"source {tmp_path}/muxjax.bash; {typed}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "serve" in said.stdout.split()


def test_a_shell_that_nobody_knows_is_refused(capsys):
    assert main(["completion", "tcl"]) == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        ("serve x --model y", "there is no --model: give the folder without a flag, or NAME=FOLDER for each of several"),
        ("serve x --served-model-name=y", "there is no --served-model-name: give NAME=FOLDER"),
        ("serve x --ttl 10m", "there is no --ttl: it is a key of CONFIG.yaml, ttl"),
        ("serve x --api-keys y", "unrecognized arguments: --api-keys y; did you mean --api-key?"),
        ("bench serve --request-rate 4", "there is no --request-rate: give --rate"),
        ("bench sweep --host x", "there is no --host: give --base-url http://HOST:PORT"),
    ],
)
def test_a_flag_of_vllm_or_a_key_that_is_no_flag_is_told_with_what_stands_for_it(capsys, words, told):
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"muxjax: {told}")


@pytest.mark.parametrize("command", ["serve", "bench serve"])
def test_what_is_told_of_flags_names_flags_that_are_there(command):
    parser = COMMANDS[f"muxjax {command}"]
    for flag, text in parser.elsewhere.items():
        assert flag not in parser._option_string_actions
        named = set(re.findall(r"--[a-z0-9-]+", text)) - {"--revision", "--local-dir"}
        assert named <= set(parser._option_string_actions), (flag, named)
