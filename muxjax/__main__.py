"""The `muxjax` command: its commands and their flags. Each is imported when it is run, so that the others need not wait for it."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import muxjax
from muxjax.commands import serve_flags
from muxjax.commands.bench import flags as bench_flags
from muxjax.commands.cli import clients, completion, planning, serving
from muxjax.commands.cli.parser import Command, parser_of
from muxjax.commands.flags import defaults_of, file_path, with_default
from muxjax.engine.options import UnitOptions
from muxjax.errors import MuxError

_ABOUT = "Many large language models on shared accelerators."
_MOST_TOLD = 2000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 2 for bad input, told in one line, 130 after Ctrl-C, 141 where nobody reads the output any more."""
    try:
        args = _parser().parse_args(arguments)
        status = args.command(args) or 0
        sys.stdout.flush()
        return status
    except MuxError as error:
        return _end(str(error), 2)
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except BrokenPipeError:
        _leave_output()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if not error.filename:  # perhaps of standard output
            _leave_output()
        return _end(f"{where}{error.strerror or error}", 2)
    except MemoryError:
        return _end("out of memory", 2)


def _end(message: str, status: int) -> int:
    """Tells why in one line, whatever names it holds, and gives the status back."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
    print("muxjax: " + (line if len(line) <= _MOST_TOLD else f"{line[: _MOST_TOLD // 2]}...{line[-_MOST_TOLD // 2 :]}"), file=sys.stderr)
    return status


def _leave_output() -> None:
    """Lets what standard output still holds go nowhere, which Python would try to write at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    groups = {
        "serving": serving.COMMANDS,
        "talking to a server": clients.COMMANDS,
        "planning": planning.COMMANDS,
        "measuring": (bench_flags.BENCH_COMMAND,),
        "beginning": (_DEMO, completion.command(_parser)),
    }
    return parser_of("muxjax", _ABOUT, str(muxjax.__version__), groups)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.set_defaults(command=_demo)
    demo.add_argument("--train", action="store_true", help="train the models anew first")
    demo.add_argument("--keep", action="store_true", help="leave the server up")
    demo.add_argument("--port", type=int, default=0, help="port to listen on (a free one)")
    policy = defaults_of(UnitOptions)["policy"]
    demo.add_argument("--policy", default=policy, help=with_default(serve_flags.POLICIES, policy))
    demo.add_argument("--model", help="with --train: only this model")
    demo.add_argument("--out", type=file_path, default=Path("demo-models"), help="with --train: where the models go (%(default)s)")
    demo.add_argument("--minutes", type=float, help="with --train: most time for all models (until they are done)")


def _demo(args: argparse.Namespace) -> int | None:
    from muxjax.demo.run import main as demo

    return demo(args)


_DEMO = Command("demo", "serve three tiny models and talk to them", _add_demo, ("muxjax demo", "muxjax demo --keep --port 8000"))

if __name__ == "__main__":
    sys.exit(main())
