"""Commands that talk to a running server."""

import argparse
from typing import Any

from muxjax.commands.cli.parser import Command
from muxjax.commands.flags import defaults_of
from muxjax.server.config import HttpOptions

URL = "http://{host}:{port}".format(**defaults_of(HttpOptions))


def _add_chat(chat: argparse.ArgumentParser) -> None:
    chat.set_defaults(command=_chat)
    chat.add_argument("--url", default=URL, help="of the server, with or without /v1 (%(default)s)")
    chat.add_argument("--model", metavar="NAME", help="to begin with (the first that the server lists)")


def _chat(args: argparse.Namespace) -> None:
    from muxjax.commands.client import chat

    chat.run(args.url, args.model)


def _add_admin(parser: argparse.ArgumentParser, command: Any) -> None:
    parser.set_defaults(command=command)
    parser.add_argument("--url", default=URL, help="of the server, or of its port for administration (%(default)s)")
    parser.add_argument("--admin-key", metavar="KEY", help="the server's key for administration (what is in MUXJAX_ADMIN_KEY)")


def _add_ps(ps: argparse.ArgumentParser) -> None:
    _add_admin(ps, _ps)


def _ps(args: argparse.Namespace) -> None:
    from muxjax.commands.client import models

    models.ps(models.AdminClient(args.url, args.admin_key))


def _add_load(load: argparse.ArgumentParser) -> None:
    load.add_argument("source", metavar="FOLDER | NAME=FOLDER", help="the model, whose folder is on the server's host")
    text = "a key that a model has in a configuration file; may be given more than once"
    load.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    _add_admin(load, _load)


def _load(args: argparse.Namespace) -> None:
    from muxjax.commands.client import models

    models.load(models.AdminClient(args.url, args.admin_key), args.source, args.set)


def _add_change(parser: argparse.ArgumentParser, *, drains: bool) -> None:
    parser.add_argument("model", metavar="MODEL", help="its name, or an alias of it")
    if drains:
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="in which requests that run may end (300)")
    _add_admin(parser, _change)


def _change(args: argparse.Namespace) -> None:
    from muxjax.commands.client import models

    models.change(models.AdminClient(args.url, args.admin_key), args.change, args.model, getattr(args, "timeout", None))


def _add_unload(unload: argparse.ArgumentParser) -> None:
    _add_change(unload, drains=True)
    unload.set_defaults(change="unload")


def _add_sleep(sleep: argparse.ArgumentParser) -> None:
    _add_change(sleep, drains=True)
    sleep.set_defaults(change="sleep")


def _add_wake(wake: argparse.ArgumentParser) -> None:
    _add_change(wake, drains=False)
    wake.set_defaults(change="wake")


COMMANDS = (
    Command(
        "chat",
        "talk in the terminal to the models of a running server",
        _add_chat,
        ("muxjax chat", "muxjax chat --url http://gpu-box:8000 --model small", "echo 'Name three rivers.' | muxjax chat"),
    ),
    Command(
        "ps",
        "list the models of a running server, and adapters under theirs: state, requests, share of the cache",
        _add_ps,
        ("muxjax ps", "muxjax ps --url http://gpu-box:8000 --admin-key KEY"),
    ),
    Command(
        "load",
        "load one more model into a running server",
        _add_load,
        (
            "muxjax load /models/Llama-3.2-1B-Instruct",
            "muxjax load small=/models/Llama-3.2-1B-Instruct --set max_num_seqs=32 --set ttl=10m",
        ),
    ),
    Command("unload", "remove a model from a running server", _add_unload, ("muxjax unload small", "muxjax unload small --timeout 0")),
    Command("sleep", "move a model's weights to the host's memory", _add_sleep, ("muxjax sleep small",)),
    Command("wake", "bring a sleeping model's weights back", _add_wake, ("muxjax wake small",)),
)
