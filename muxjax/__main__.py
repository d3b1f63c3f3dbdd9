"""The `muxjax` command: its commands and their flags. Each is imported when it is run, so that the others need not wait for it."""

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import muxjax
from muxjax.commands import serve_flags
from muxjax.commands.bench import flags as bench_flags
from muxjax.commands.flags import add_fields, defaults_of, file_path, one_of, read_fields, with_default
from muxjax.commands.profile_grid import Grid
from muxjax.commands.simulate_options import SimulateOptions
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError, MuxError
from muxjax.scheduler.policies import BY_NAME, OTHER_NAMES

_DEFAULT_COSTS = "what was measured for the package"
_MOST_TOLD = 2000


class _Parser(argparse.ArgumentParser):
    """Flags whose errors are told as all others are: in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """As of any parser; a flag that is not known is told by the command that it was given to, with the one it resembles."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
            raise ConfigError(f"unrecognized arguments: {' '.join(unknown)}; {hint}")
        return found, unknown


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
    parser = _Parser(prog="muxjax", description="Many large language models on shared accelerators.")
    parser.add_argument("--version", action="version", version=f"muxjax {muxjax.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve models behind an OpenAI-compatible endpoint"))
    _add_worker(commands.add_parser("worker", help="serve one unit to a server on another host"))
    _add_compile(commands.add_parser("compile", help="compile models' programs ahead of a start, as in the build of an image"))
    _add_run_batch(commands.add_parser("run-batch", help="answer a file of requests, in OpenAI's batch format"))
    _add_chat(commands.add_parser("chat", help="talk in the terminal to the models of a running server"))
    _add_convert(commands.add_parser("convert", help="convert a checkpoint between Hugging Face's format and Orbax"))
    _add_place(commands.add_parser("place", help="decide which models share which devices of a cluster"))
    _add_simulate(commands.add_parser("simulate", help="try a placement under a load, without devices"))
    _add_profile(commands.add_parser("profile", help="measure steps of models on this machine, for placement"))
    bench_flags.add_bench(commands.add_parser("bench", help="measure running servers, or models without HTTP, under a load"))
    _add_demo(commands.add_parser("demo", help="serve three tiny models and talk to them"))
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(command=_serve)
    serve.add_argument("sources", nargs="+", metavar="CONFIG.yaml | NAME=PATH", help="a configuration, or the models' names and folders")
    serve_flags.add_cluster_flags(serve)
    serve_flags.add_http_flags(serve)
    serve_flags.add_unit_flags(serve)


def _serve(args: argparse.Namespace) -> int:
    from muxjax.commands import serve
    from muxjax.server.config import load_options

    return serve.run(load_options(args.sources, serve_flags.secrets() | serve_flags.settings(args)))


def _add_worker(worker: argparse.ArgumentParser) -> None:
    worker.description = (
        "Serves one unit to whichever server connects. `muxjax serve --placement` starts its own workers; on another host, start one on a "
        "port, with the key that both know in MUXJAX_WORKER_KEY."
    )
    worker.set_defaults(command=_worker)
    worker.add_argument("--socket", type=file_path, metavar="PATH", help="where to listen, on this host")
    worker.add_argument("--listen", metavar="HOST:PORT", help="where to listen, for servers on other hosts")
    worker.add_argument("--name", default="", help="of the unit, for its log")
    worker.add_argument("--log-level", default="info", help="as of serve")
    worker.add_argument("--log-format", default="text", help="as of serve")


def _worker(args: argparse.Namespace) -> int:
    from muxjax.commands import worker

    return worker.run(read_fields(worker.WorkerOptions, args))


def _add_compile(compiling: argparse.ArgumentParser) -> None:
    compiling.description = (
        "Compiles every program that serve would need with the same options, into the same folder; what is there stays. No weights are "
        "read. For a GPU, name the size of the cache here and there: programs are compiled for one size."
    )
    compiling.set_defaults(command=_compile)
    compiling.add_argument("sources", nargs="+", metavar="CONFIG.yaml | NAME=PATH", help="the models, as for serve")
    compiling.add_argument("--chip", default="", help="for a GPU that need not be there, such as h200 (what is attached)")
    compiling.add_argument(
        "--tune", action="store_true", help="try XLA's kernels on the GPU at hand first, for steps of few rows that nobody has tuned"
    )
    serve_flags.add_unit_flags(compiling)


def _compile(args: argparse.Namespace) -> int:
    from muxjax.commands import compile
    from muxjax.server.config import load_options

    unit = load_options(args.sources, serve_flags.settings(args)).unit
    return compile.run(unit, args.chip, tune=args.tune)


def _add_run_batch(batch: argparse.ArgumentParser) -> None:
    batch.set_defaults(command=_run_batch)
    batch.add_argument("sources", nargs="+", metavar="CONFIG.yaml | NAME=PATH", help="the models, as for serve")
    batch.add_argument("-i", "--input-file", required=True, metavar="IN.jsonl", help="requests, one a line; - for standard input")
    batch.add_argument("-o", "--output-file", required=True, metavar="OUT.jsonl", help="answers in the same order; - for standard output")
    batch.add_argument("--resume", action="store_true", help="go on after the answers that the output file holds")
    batch.add_argument("--max-inflight", type=int, metavar="N", help="lines at a time (twice what all models take at once)")
    serve_flags.add_unit_flags(batch)


def _run_batch(args: argparse.Namespace) -> int:
    from muxjax.commands.batch import run_batch
    from muxjax.server.config import load_options

    unit = load_options(args.sources, serve_flags.settings(args)).unit
    return run_batch.run(unit, read_fields(run_batch.Options, args))


def _add_chat(chat: argparse.ArgumentParser) -> None:
    chat.set_defaults(command=_chat)
    chat.add_argument("--url", default="http://127.0.0.1:8000/v1", help="of the server's API (%(default)s)")
    chat.add_argument("--model", metavar="NAME", help="to begin with (the first that the server lists)")


def _chat(args: argparse.Namespace) -> None:
    from muxjax.commands import chat

    chat.run(args.url, args.model)


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.set_defaults(command=_convert)
    convert.add_argument("source", type=file_path)
    convert.add_argument("destination", type=file_path)


def _convert(args: argparse.Namespace) -> None:
    from muxjax.models.convert import convert

    convert(args.source, args.destination, progress=True)


def _add_place(place: argparse.ArgumentParser) -> None:
    place.set_defaults(command=_place)
    place.add_argument(
        "problem", type=file_path, metavar="PROBLEM.yaml", help="a cluster, and models with their rates, lengths and targets"
    )
    place.add_argument("-o", "--output", type=file_path, metavar="PLACEMENT.json", help="where the placement is written")
    place.add_argument("--explain", action="store_true", help="say of each model where else it could be, and what that would cost")
    place.add_argument(
        "--json", action="store_true", help="print the placement and what it serves as JSON, as -o writes it, in place of tables"
    )
    place.add_argument("--costs", type=file_path, metavar="COSTS.json", help=f"what `muxjax profile` measured ({_DEFAULT_COSTS})")
    text = "how to place in the place of a search: memory-greedy, spatial-blind or spatial-aware, to compare it with"
    place.add_argument("--baseline", metavar="NAME", help=text)
    text = "a running server: what comes for it in the window is placed, not what the problem expects"
    place.add_argument("--from-metrics", metavar="URL", help=text)
    place.add_argument("--window", type=float, default=60.0, metavar="SECONDS", help="of --from-metrics (%(default)g)")
    text = "after which the best placement until then is taken (the search ends by itself)"
    place.add_argument("--time-limit", type=float, metavar="SECONDS", help=text)


def _place(args: argparse.Namespace) -> None:
    from muxjax.commands import place

    place.run(
        args.problem,
        args.output,
        explain=args.explain,
        in_json=args.json,
        measured=args.costs,
        time_limit_s=args.time_limit,
        baseline=args.baseline,
        from_metrics=args.from_metrics,
        window_s=args.window,
    )


def _add_simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.set_defaults(command=_simulate)
    simulate.add_argument("problem", type=file_path, metavar="PROBLEM.yaml")
    simulate.add_argument("placement", type=file_path, metavar="PLACEMENT.json")
    simulate.add_argument(
        "--rename", action="append", default=[], metavar="OLD=NEW", help="a model of the trace or workload is one of the placement"
    )
    texts = {
        "trace": "requests to replay (by default, what the problem's rates bring)",
        "format": "of the trace: muxjax (JSON lines), azure, burst-gpt or mooncake",
        "workload": "requests of a preset, such as powerlaw-19, lmsys-16 or azure-mix, in place of the problem's",
        "duration_s": "seconds in which requests come at random",
        "drain_s": "seconds after the last request, in which the others may still end",
        "rate_scale": "requests come so many times as fast",
        "seed": "of what is drawn at random",
        "policy": one_of((*BY_NAME, *OTHER_NAMES)),
        "lanes": "lanes of each device, whose steps run beside each other; with one, all models take turns",
        "max_model_len": "most tokens of prompt and output, to which requests are cut",
        "costs": f"what `muxjax profile` measured ({_DEFAULT_COSTS})",
        "goodput": "search the highest rate at which this share of the requests is within its objective, such as 0.99",
        "slo_scale": "the objective of --goodput, in times of what a request takes alone",
        "processes": "most units that are simulated at a time (one a processor)",
        "json": "where all metrics are written",
        "plot": "where a picture of them is written, .png or .svg; needs the extra plot",
    }
    add_fields(simulate, SimulateOptions, texts)


def _simulate(args: argparse.Namespace) -> None:
    from muxjax.commands import simulate

    simulate.run(args.problem, args.placement, read_fields(SimulateOptions, args))


def _add_profile(profile: argparse.ArgumentParser) -> None:
    profile.set_defaults(command=_profile)
    profile.add_argument(
        "models", nargs="+", metavar="MODEL", help="a published shape by name, or a folder with a config.json; random weights"
    )
    profile.add_argument(
        "-o", "--output", type=file_path, required=True, metavar="COSTS.json", help="the table; what it holds is not measured again"
    )
    profile.add_argument("--tp", type=int, nargs="+", default=[1], metavar="N", help="degrees of tensor parallelism (1)")
    cache_dir = defaults_of(UnitOptions)["compilation_cache_dir"]
    text = with_default(serve_flags.COMPILATION_CACHE_DIR, cache_dir)
    profile.add_argument("--compilation-cache-dir", default=cache_dir, metavar="VALUE", help=text)
    texts = {
        "decode_batch": "sequences of a decode step",
        "decode_context": "tokens of each of them",
        "prefill_tokens": "new tokens of a prefill step",
        "prefill_context": "positions that a new token attends to in the mean",
    }
    add_fields(profile, Grid, texts)


def _profile(args: argparse.Namespace) -> None:
    from muxjax.commands import profile

    grid = Grid(
        decode_batch=tuple(args.decode_batch),
        decode_context=tuple(args.decode_context),
        prefill_tokens=tuple(args.prefill_tokens),
        prefill_context=tuple(args.prefill_context),
    )
    profile.run(args.models, args.output, degrees=args.tp, grid=grid, cache_dir=args.compilation_cache_dir)


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


if __name__ == "__main__":
    sys.exit(main())
