"""`muxjax completion`: a script by which a shell completes commands and flags."""

import argparse
from collections.abc import Callable

from muxjax.commands.cli.parser import Command

SHELLS = ("bash", "zsh", "fish")


def command(parser: Callable[[], argparse.ArgumentParser]) -> Command:
    """The command, for the parser that it is itself in."""

    def add(completion: argparse.ArgumentParser) -> None:
        completion.set_defaults(command=lambda args: print(script(parser(), args.shell)))
        completion.add_argument("shell", choices=SHELLS, help="whose it is to be")

    examples = (
        "muxjax completion bash > ~/.local/share/bash-completion/completions/muxjax",
        "muxjax completion zsh > ~/.zfunc/_muxjax       # a folder of $fpath",
        "muxjax completion fish > ~/.config/fish/completions/muxjax.fish",
    )
    return Command("completion", "print a script by which a shell completes commands and flags", add, examples)


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The shell's script."""
    import shtab

    return shtab.complete(parser, shell=shell)
