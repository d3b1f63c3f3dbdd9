"""Parsers of commands: what is wrong is told in one line, and help has commands and flags in groups, with examples."""

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from muxjax.errors import ConfigError


class Command(NamedTuple):
    """A command of the command line.

    Args:
      what: it does, in a few words.
      add: gives its parser the flags, and the default `command`, a function of the arguments.
      examples: lines to type, as its help shows them.
      elsewhere: what stands for flags that others have and it has not, by the flag.
    """

    name: str
    what: str
    add: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]
    elsewhere: Mapping[str, str] = {}


class Parser(argparse.ArgumentParser):
    """Flags whose errors are told as all others are: in one line."""

    elsewhere: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """As of any parser; a flag that is not known is told by the command that it was given to, with the one it resembles."""
        if args is not None:
            self._refuse_others(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
            raise ConfigError(f"unrecognized arguments: {' '.join(unknown)}; {hint}")
        return found, unknown

    def _refuse_others(self, args: Sequence[str]) -> None:
        """Raises ConfigError: a flag that something else stands for here; before --model is taken for the beginning of --model-root."""
        flags = [arg.partition("=")[0] for arg in args if arg.startswith("--")]
        for flag in flags:
            if flag not in self._option_string_actions and (instead := self.elsewhere.get(flag)):
                raise ConfigError(f"there is no {flag}: {instead}; see {self.prog} --help")


class _Help(argparse.HelpFormatter):
    """Texts of several lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return (
            "".join(indent + line for line in text.splitlines(keepends=True)) if "\n" in text else super()._fill_text(text, width, indent)
        )


class _Listed(_Help):
    """Commands are in the text already."""

    def add_argument(self, action: argparse.Action) -> None:
        if not isinstance(action, argparse._SubParsersAction):
            super().add_argument(action)


def parser_of(name: str, about: str, version: str, groups: Mapping[str, Sequence[Command]]) -> Parser:
    """The parser of all commands, whose help lists them by what they are for."""
    width = max(len(command.name) for commands in groups.values() for command in commands)
    lists = (
        f"{group}:\n" + "".join(f"    {command.name:<{width}}  {command.what}\n" for command in commands)
        for group, commands in groups.items()
    )
    text = "\n".join((f"{about}\n", *lists, f"{name} COMMAND --help tells a command's flags, with examples."))
    parser = Parser(prog=name, usage=f"{name} [-h] [--version] COMMAND ...", description=text, formatter_class=_Listed)
    parser.add_argument("--version", action="version", version=f"{name} {version}")
    add_commands(parser, [command for commands in groups.values() for command in commands])
    return parser


def add_commands(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    """Gives a parser commands."""
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", prog=parser.prog)
    for command in commands:
        examples = "\n".join(("examples:", *(f"  {line}" for line in command.examples)))
        own = subparsers.add_parser(command.name, help=command.what, epilog=examples, formatter_class=_Help)
        own.description = f"{command.what[0].upper()}{command.what[1:]}."
        assert isinstance(own, Parser)
        own.elsewhere = command.elsewhere
        command.add(own)
