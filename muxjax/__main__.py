"""The `muxjax` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from muxjax.errors import MuxError

_SERVE_FLAGS = {
    "--host": "address to listen on (127.0.0.1; 0.0.0.0 for all)",
    "--port": "port to listen on (8000; 0 for a free one)",
    "--max-model-len": "most tokens of prompt and output, for every model",
    "--max-num-seqs": "most sequences at a time, for every model (64)",
    "--max-num-batched-tokens": "most new tokens of one prefill step (2048)",
    "--tensor-parallel-size": "devices, each of which holds an equal share of every model (1)",
    "--kv-cache-size": "size of the shared cache on each device, such as 16GiB",
    "--memory-size": "memory of each device for weights, cache and steps, in place of the share below",
    "--gpu-memory-fraction": "share of the device's memory for weights, cache and steps (0.9)",
    "--compilation-cache-dir": "where compiled programs are kept for the next start (~/.cache/muxjax/xla; empty for nowhere)",
    "--enable-prefix-caching": "keep what was computed while there is room, for requests that begin alike (the default)",
    "--prefix-cache-fraction": "share of the cache beyond which a model's kept prefixes are the first to go (0.5)",
    "--load-format": "auto, or dummy for random weights",
    "--dtype": "auto, bfloat16, float16 or float32",
    "--policy": "adbs, round_robin or fcfs",
    "--shutdown-timeout": "seconds that running requests get after SIGTERM (30)",
    "--step-timeout": "seconds after which a step is stuck (300)",
    "--on-failure": "what to do when the device is lost or stuck: exit (the default) or stay",
    "--log-level": "debug, info, warning or error",
}
_HTTP_FLAGS = ("--host", "--port", "--shutdown-timeout", "--on-failure", "--log-level")
_WATCH_FLAGS = {
    "--log-format": "text or json (text)",
    "--trace": "file that is written with what requests and jobs do, for Perfetto or chrome://tracing",
    "--otel": "true for OpenTelemetry's spans of requests, sent where the variables OTEL_* say; needs the extra otel",
}
_DOOR_FLAGS = {
    "--max-num-queued-reqs": "most requests of all models that wait for a first token; others are refused (no limit)",
    "--max-num-queued-tokens": "most tokens of their prompts (no limit)",
    "--api-key": "a key that clients must send; may be given more than once (or in MUXJAX_API_KEY, which no list of processes shows)",
    "--admin-key": "the key for administration, which is off without one (or in MUXJAX_ADMIN_KEY)",
    "--admin-host": "address of metrics and administration, with --admin-port (127.0.0.1)",
    "--admin-port": "port that metrics and administration are on, and then only there",
    "--allowed-origins": "origin of pages in a browser that may call the server, * for all; may be given more than once",
}
_SWITCHES = ("--enable-prefix-caching",)
_REPEATED = ("--api-key", "--admin-key", "--allowed-origins")
_FROM_ENVIRONMENT = {"api_key": "MUXJAX_API_KEY", "admin_key": "MUXJAX_ADMIN_KEY"}
_PROFILE_GRID = {
    "decode_batch": "sequences of a decode step (1 8 64 256)",
    "decode_context": "tokens of each of them (128 512 2048 8192)",
    "prefill_tokens": "new tokens of a prefill step (128 512 2048)",
    "prefill_context": "positions that a new token attends to in the mean (128 1024 4096)",
}
_SIMULATE_FLAGS = {
    "--trace": (Path, "requests to replay (by default, what the problem's rates bring)"),
    "--format": (str, "of the trace: muxjax (JSON lines, the default), azure, burst-gpt or mooncake"),
    "--workload": (str, "requests of a preset, such as powerlaw-19, lmsys-16 or azure-mix, in place of the problem's"),
    "--duration": (float, "seconds in which requests come at random (60)"),
    "--drain": (float, "seconds after the last request, in which the others may still end (60)"),
    "--rate-scale": (float, "requests come so many times as fast (1)"),
    "--seed": (int, "of what is drawn at random (0)"),
    "--policy": (str, "adbs (the default), round_robin, fcfs or temporal"),
    "--max-model-len": (int, "most tokens of prompt and output, to which requests are cut (8192)"),
    "--costs": (Path, "what `muxjax profile` measured (what was measured for the package)"),
    "--goodput": (float, "search the highest rate at which this share of the requests is within its objective, such as 0.99"),
    "--slo-scale": (float, "the objective of --goodput, in times of what a request takes alone (8)"),
    "--processes": (int, "most units that are simulated at a time (one a processor)"),
    "--json": (Path, "where all metrics are written"),
    "--plot": (Path, "where a picture of them is written, .png or .svg; needs the extra plot"),
}
_SPELLINGS = {"--gpu-memory-fraction": ["--gpu-memory-utilization"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 2 for bad input, told in one line."""
    args = _parser().parse_args(arguments)
    try:
        return args.command(args) or 0
    except MuxError as error:
        print(f"muxjax: {error}", file=sys.stderr)
        return 2


def _serve(args: argparse.Namespace) -> None:
    import asyncio

    from muxjax.server.config import load_options
    from muxjax.server.telemetry import logs

    flags = {flag[2:].replace("-", "_") for flag in _SERVE_FLAGS | _WATCH_FLAGS | _DOOR_FLAGS} & set(vars(args))
    secrets = {flag: os.environ[variable] for flag, variable in _FROM_ENVIRONMENT.items() if os.environ.get(variable)}
    unit, http = load_options(args.sources, secrets | {flag: getattr(args, flag) for flag in flags})
    logs.configure(http.log_level, http.log_format)

    from muxjax.server.build import build_service
    from muxjax.server.http.serve import serve
    from muxjax.server.telemetry.watcher import open_watchers

    with open_watchers(http) as watchers:
        service = build_service(unit)
        service.watchers += watchers
        ended = asyncio.run(serve(service, http))
    if not ended:
        print("muxjax: the engine has failed, as the log says", file=sys.stderr, flush=True)
        os._exit(1)  # an orderly end would wait for the device


def _run_batch(args: argparse.Namespace) -> int:
    from muxjax.commands import run_batch
    from muxjax.server.config import load_options

    flags = {flag[2:].replace("-", "_") for flag in _SERVE_FLAGS} & set(vars(args))
    unit, _ = load_options(args.sources, {flag: getattr(args, flag) for flag in flags})
    names = ("input_file", "output_file", "resume", "max_inflight")
    return run_batch.run(unit, run_batch.Options(**{name: getattr(args, name) for name in names}))


def _chat(args: argparse.Namespace) -> None:
    from muxjax.commands import chat

    chat.run(args.url, args.model)


def _convert(args: argparse.Namespace) -> None:
    from muxjax.models.convert import convert

    convert(args.source, args.destination, progress=True)


def _place(args: argparse.Namespace) -> None:
    from muxjax.commands import place

    place.run(args.problem, args.output, explain=args.explain, measured=args.costs)


def _simulate(args: argparse.Namespace) -> None:
    from muxjax.commands import simulate

    given = {name: value for name, value in vars(args).items() if name not in ("command", "problem", "placement")}
    simulate.run(args.problem, args.placement, simulate.Options(**given))


def _profile(args: argparse.Namespace) -> None:
    from muxjax.commands import profile

    grid = profile.Grid(**{name: tuple(value) for name, value in vars(args).items() if name in _PROFILE_GRID})
    profile.run(args.models, args.output, degrees=args.tp, grid=grid, cache_dir=args.compilation_cache_dir)


def _demo(args: argparse.Namespace) -> int | None:
    from muxjax.demo.run import main as demo

    return demo(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="muxjax", description="Many large language models on shared accelerators.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve models behind an OpenAI-compatible endpoint")
    serve.set_defaults(command=_serve)
    serve.add_argument("sources", nargs="+", metavar="CONFIG.yaml | NAME=PATH", help="a configuration, or the models' names and folders")
    for flag, text in (_SERVE_FLAGS | _WATCH_FLAGS | _DOOR_FLAGS).items():
        _add_flag(serve, flag, text)

    _add_run_batch(commands.add_parser("run-batch", help="answer a file of requests, in OpenAI's batch format"))

    chat = commands.add_parser("chat", help="talk in the terminal to the models of a running server")
    chat.set_defaults(command=_chat)
    chat.add_argument("--url", default="http://127.0.0.1:8000/v1", help="of the server's API (http://127.0.0.1:8000/v1)")
    chat.add_argument("--model", metavar="NAME", help="to begin with (the first that the server lists)")

    convert = commands.add_parser("convert", help="convert a checkpoint between Hugging Face's format and Orbax")
    convert.set_defaults(command=_convert)
    convert.add_argument("source", type=Path)
    convert.add_argument("destination", type=Path)

    place = commands.add_parser("place", help="decide which models share which devices of a cluster")
    place.set_defaults(command=_place)
    place.add_argument("problem", type=Path, metavar="PROBLEM.yaml", help="a cluster, and models with their rates, lengths and targets")
    place.add_argument("-o", "--output", type=Path, metavar="PLACEMENT.json", help="where the placement is written")
    place.add_argument("--explain", action="store_true", help="say of each model where else it could be, and what that would cost")
    place.add_argument(
        "--costs", type=Path, metavar="COSTS.json", help="what `muxjax profile` measured (what was measured for the package)"
    )

    _add_simulate(commands.add_parser("simulate", help="try a placement under a load, without devices"))

    profile = commands.add_parser("profile", help="measure steps of models on this machine, for placement")
    profile.set_defaults(command=_profile)
    profile.add_argument(
        "models", nargs="+", metavar="MODEL", help="a published shape by name, or a folder with a config.json; random weights"
    )
    profile.add_argument(
        "-o", "--output", type=Path, required=True, metavar="COSTS.json", help="the table; what it holds is not measured again"
    )
    profile.add_argument("--tp", type=int, nargs="+", default=[1], metavar="N", help="degrees of tensor parallelism (1)")
    profile.add_argument(
        "--compilation-cache-dir", default="~/.cache/muxjax/xla", metavar="VALUE", help=_SERVE_FLAGS["--compilation-cache-dir"]
    )
    for name, text in _PROFILE_GRID.items():
        flag = f"--{name.replace('_', '-')}"
        profile.add_argument(flag, type=int, nargs="+", default=argparse.SUPPRESS, metavar="N", help=text)

    demo = commands.add_parser("demo", help="serve three tiny models and talk to them")
    demo.set_defaults(command=_demo)
    demo.add_argument("--train", action="store_true", help="train the models anew first")
    demo.add_argument("--keep", action="store_true", help="leave the server up")
    demo.add_argument("--port", type=int, default=0, help="port to listen on (a free one)")
    demo.add_argument("--policy", default="adbs", help="adbs, round_robin or fcfs")
    demo.add_argument("--model", help="with --train: only this model")
    demo.add_argument("--out", type=Path, default=Path("demo-models"), help="with --train: where the models go (demo-models)")
    demo.add_argument("--minutes", type=float, help="with --train: most time for all models (until they are done)")
    return parser


def _add_run_batch(batch: argparse.ArgumentParser) -> None:
    batch.set_defaults(command=_run_batch)
    batch.add_argument("sources", nargs="+", metavar="CONFIG.yaml | NAME=PATH", help="the models, as for serve")
    batch.add_argument("-i", "--input-file", required=True, metavar="IN.jsonl", help="requests, one a line; - for standard input")
    batch.add_argument("-o", "--output-file", required=True, metavar="OUT.jsonl", help="answers in the same order; - for standard output")
    batch.add_argument("--resume", action="store_true", help="go on after the answers that the output file holds")
    batch.add_argument("--max-inflight", type=int, metavar="N", help="lines at a time (twice what all models take at once)")
    for flag, text in _SERVE_FLAGS.items():
        if flag not in _HTTP_FLAGS:
            _add_flag(batch, flag, text)


def _add_flag(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    """One of the options; a switch has its opposite too."""
    if flag in _SWITCHES:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
    else:
        kind = "append" if flag in _REPEATED else "store"
        parser.add_argument(flag, *_SPELLINGS.get(flag, ()), action=kind, default=argparse.SUPPRESS, metavar="VALUE", help=text)


def _add_simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.set_defaults(command=_simulate)
    simulate.add_argument("problem", type=Path, metavar="PROBLEM.yaml")
    simulate.add_argument("placement", type=Path, metavar="PLACEMENT.json")
    simulate.add_argument("--serial", action="store_true", help="one job at a time on a device, as one JAX program after the other")
    simulate.add_argument(
        "--rename", action="append", default=[], metavar="OLD=NEW", help="a model of the trace or workload is one of the placement"
    )
    for flag, (kind, text) in _SIMULATE_FLAGS.items():
        field = flag[2:].replace("-", "_") + ("_s" if flag in ("--duration", "--drain") else "")
        simulate.add_argument(
            flag, dest=field, type=kind, metavar="FILE" if kind is Path else "VALUE", default=argparse.SUPPRESS, help=text
        )


if __name__ == "__main__":
    sys.exit(main())
