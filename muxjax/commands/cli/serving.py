"""Commands that serve models, and those that prepare it."""

import argparse

from muxjax.commands import serve_flags
from muxjax.commands.cli import elsewhere
from muxjax.commands.cli.parser import Command
from muxjax.commands.flags import file_path, read_fields
from muxjax.errors import require

SOURCES = "CONFIG.yaml | FOLDER | NAME=FOLDER"


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(command=_serve)
    serve.usage = f"{serve.prog} [FLAG ...] {SOURCES} ..."
    serve.add_argument("sources", nargs="+", metavar=SOURCES, help="a configuration, or folders of models, by names or their own")
    serve_flags.add_unit_flags(serve)
    serve_flags.add_http_flags(serve)
    serve_flags.add_cluster_flags(serve)
    checking = serve.add_argument_group("checking")
    checking.add_argument("--check", action="store_true", help="read the configuration, tell what it takes of memory, and start nothing")
    checking.add_argument("--chip", default="", metavar="NAME", help="with --check: what the models are for, such as h200 (what is here)")


def _serve(args: argparse.Namespace) -> int:
    from muxjax.server.config import load_options

    options = load_options(args.sources, serve_flags.secrets() | serve_flags.settings(args))
    if args.check:
        from muxjax.commands import check

        check.run(options, args.chip)
        return 0
    require(not args.chip, "chip", args.chip, "left out without --check")
    from muxjax.commands import serve

    return serve.run(options)


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
    compiling.add_argument("sources", nargs="+", metavar=SOURCES, help="the models, as for serve")
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
    batch.add_argument("sources", nargs="+", metavar=SOURCES, help="the models, as for serve")
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


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.set_defaults(command=_convert)
    convert.add_argument("source", type=file_path)
    convert.add_argument("destination", type=file_path)


def _convert(args: argparse.Namespace) -> None:
    from muxjax.models.convert import convert

    convert(args.source, args.destination, progress=True)


def _add_schema(schema: argparse.ArgumentParser) -> None:
    schema.set_defaults(command=_schema)


def _schema(args: argparse.Namespace) -> None:
    from muxjax.commands import config_schema

    print(config_schema.text(), end="")


COMMANDS = (
    Command(
        "serve",
        "serve models behind an OpenAI-compatible endpoint",
        _add_serve,
        (
            "muxjax serve /models/Llama-3.2-1B-Instruct",
            "muxjax serve big=/models/Llama-3.1-8B-Instruct small=/models/Llama-3.2-1B-Instruct --port 9000",
            "muxjax serve CONFIG.yaml --check --chip h200",
        ),
        elsewhere.SERVE,
    ),
    Command(
        "worker", "serve one unit to a server on another host", _add_worker, ("MUXJAX_WORKER_KEY=... muxjax worker --listen 0.0.0.0:7000",)
    ),
    Command(
        "compile",
        "compile models' programs ahead of a start, as in the build of an image",
        _add_compile,
        ("muxjax compile CONFIG.yaml", "muxjax compile CONFIG.yaml --chip h200 --kv-cache-size 40GiB"),
    ),
    Command(
        "run-batch",
        "answer a file of requests, in OpenAI's batch format",
        _add_run_batch,
        ("muxjax run-batch -i in.jsonl -o out.jsonl CONFIG.yaml", "muxjax run-batch -i in.jsonl -o out.jsonl --resume CONFIG.yaml"),
    ),
    Command(
        "convert",
        "convert a checkpoint between Hugging Face's format and Orbax",
        _add_convert,
        ("muxjax convert /models/Llama-3.2-1B-Instruct /models/Llama-3.2-1B-orbax",),
    ),
    Command(
        "schema",
        "print the JSON schema of configurations, by which editors help to write them",
        _add_schema,
        ("muxjax schema > muxjax.schema.json",),
    ),
)
