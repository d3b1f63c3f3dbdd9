"""Flags of `muxjax bench`."""

import argparse
from collections.abc import Iterable
from typing import Any

from muxjax.bench.targets import Targets
from muxjax.commands import serve_flags
from muxjax.commands.bench.options import TOLD, BenchOptions, CompareOptions, LoadOptions, SweepOptions
from muxjax.commands.cli import elsewhere
from muxjax.commands.cli.parser import Command, add_commands
from muxjax.commands.flags import add_fields, file_path, read_fields
from muxjax.engine.options import UnitOptions
from muxjax.server.config import OTHER_NAMES
from muxjax.settings import canonical

LOAD = {
    "trace": "requests to replay, at their own times; {seed} in its name is the run's",
    "format": "of the trace: muxjax (JSON lines), azure, burst-gpt or mooncake",
    "workload": "requests of a preset, such as lmsys-16 or llama-trio",
    "dataset": "prompts: ShareGPT's JSON, or lines with prompt or messages, and output_tokens",
    "num_prompts": "so many requests (100, or the whole trace)",
    "random_input_len": "tokens of each random prompt",
    "random_output_len": "tokens of each answer to one",
    "output_len": "tokens of each answer to a data set, in place of what it says",
    "prompt_ids_below": "random prompts have tokens below",
    "endpoint": "completions or chat (chat where prompts are texts)",
}
WHEN = {
    "rate": "requests a second of all models, inf for all at once; of random prompts and data sets",
    "burstiness": "shape of the gaps' gamma distribution: 1 is Poisson, less comes in clumps",
    "rate_scale": "requests come so many times as fast",
    "max_model_len": "most tokens of prompt and output, to which requests of a workload or trace are cut",
    "duration_s": "requests of so many seconds, in place of their number (60 of a workload)",
}
BENCH = {
    "base_url": "of a server's API",
    "api_key": "that it wants (what is in OPENAI_API_KEY)",
    "seeds": "of what is drawn at random, a run each",
    "warmup": "requests of each model that are asked alone before, of which --slo-scale is a multiple",
    "timeout_s": "seconds after which a request has failed",
    "clients": "processes that send, in turn: more where a client falls behind",
    "label": "of the runs in files and pictures",
    "records": "where a line for each request is written; runs are appended",
}
JSON = {"json": "where the numbers are written, under vLLM's keys"}
TARGETS = {
    "ttft_s": "seconds to the first token, of a good answer",
    "tpot_s": "seconds for each further token",
    "e2e_s": "seconds to the last token",
    "slo_scale": "where no seconds are given: the whole answer within so many times what it takes alone",
}
SWEEP = {
    "least": "share of the requests that are to be within their targets",
    "most_scale": "highest multiple of the load's rate that is tried",
}

COMPARED = ("seeds", "warmup", "timeout_s", "clients", "records")
COMPARED_WHEN = ("rate", "burstiness", "rate_scale", "duration_s")
"""Of BENCH and of WHEN, what is the user's to say where the servers are started for it."""
FLEET = frozenset(name for name in serve_flags.UNIT if canonical(name, OTHER_NAMES) in TOLD)
"""Flags of `muxjax serve` for what every backend can be told."""
COMPARE = {
    "backends": "mux, lanes, adbs, round-robin, turns, spatial, spatial-whole, static-memory; vllm, sglang (-mps), llama.cpp if installed;"
    " or NAME=MODULE",
    "rate_scales": "multiples of the load's rate, which all are asked",
    "enough": "a backend is asked no more than the first rate at which less than this share is within its targets",
    "logs": "folder for what the servers print",
    "ready_s": "seconds in which a backend must have started",
}


def _add_bench(bench: argparse.ArgumentParser) -> None:
    """The commands of `muxjax bench`."""
    add_commands(
        bench,
        [
            Command(
                "serve",
                "send a load to running servers of OpenAI's API",
                _add_serve,
                ("muxjax bench serve --model small --num-prompts 100 --rate 4", "muxjax bench serve --workload llama-trio --duration 60"),
                elsewhere.BENCH,
            ),
            Command(
                "sweep",
                "find the highest rate at which enough requests are within their targets",
                _add_sweep,
                ("muxjax bench sweep --model small --rate 4 --ttft 0.2 --tpot 0.02",),
                elsewhere.BENCH,
            ),
            Command(
                "compare",
                "give a load to one serving system after another, each started for it",
                _add_compare,
                ("muxjax bench compare CONFIG.yaml --backends mux turns vllm --rate 8",),
            ),
            Command(
                "throughput",
                "give a load to models of this process, all at once, without HTTP",
                _add_throughput,
                ("muxjax bench throughput small=/models/Llama-3.2-1B-Instruct --num-prompts 512",),
            ),
            Command(
                "report",
                "print again what files of records come to, with other targets",
                _add_report,
                ("muxjax bench report a.jsonl --ttft 0.5",),
            ),
            Command("plot", "draw files of records over their rates", _add_plot, ("muxjax bench plot a.jsonl b.jsonl -o rates.png",)),
        ],
    )


def _add_asked(parser: argparse.ArgumentParser) -> None:
    """Flags of a load on servers that run."""
    text = "whom to ask, evenly; may be given more than once (all there are)"
    parser.add_argument("--model", action="append", default=[], metavar="NAME[=URL]", help=text)
    _add_load(parser, LOAD | WHEN)
    add_fields(parser, BenchOptions, BENCH | JSON)
    add_fields(parser, Targets, TARGETS)


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(command=_serve)
    _add_asked(serve)


def _add_sweep(sweep: argparse.ArgumentParser) -> None:
    sweep.set_defaults(command=_sweep)
    _add_asked(sweep)
    add_fields(sweep, SweepOptions, SWEEP)


def _serve(args: argparse.Namespace) -> int:
    from muxjax.commands.bench import serve

    return serve.run(_load(args), _bench(args), read_fields(Targets, args))


def _sweep(args: argparse.Namespace) -> int:
    from muxjax.commands.bench import sweep

    return sweep.run(_load(args), _bench(args), read_fields(Targets, args), read_fields(SweepOptions, args))


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.set_defaults(command=_compare)
    compare.add_argument("sources", nargs="+", metavar="CONFIG.yaml | FOLDER | NAME=FOLDER", help="the models, as for serve")
    _add_load(compare, LOAD | {name: WHEN[name] for name in COMPARED_WHEN})
    add_fields(compare, BenchOptions, {name: BENCH[name] for name in COMPARED})
    add_fields(compare, Targets, TARGETS)
    add_fields(compare, CompareOptions, COMPARE)
    serve_flags.add_unit_flags(compare, FLEET)


def _compare(args: argparse.Namespace) -> int:
    from muxjax.commands.bench import compare
    from muxjax.server.config import load_options

    unit = load_options(args.sources, {name: value for name, value in vars(args).items() if name in FLEET}).unit
    options = BenchOptions(**{name: getattr(args, name) for name in COMPARED} | {"seeds": tuple(args.seeds), "api_key": ""})
    load = _unit_load(args, unit, COMPARED_WHEN)
    several = read_fields(CompareOptions, _with_tuples(args, "backends", "rate_scales"))
    return compare.run(unit, load, options, read_fields(Targets, args), several)


def _add_throughput(throughput: argparse.ArgumentParser) -> None:
    throughput.set_defaults(command=_throughput)
    throughput.add_argument("sources", nargs="+", metavar="CONFIG.yaml | FOLDER | NAME=FOLDER", help="the models, as for serve")
    throughput.add_argument("--seed", type=int, default=0, help="of what is drawn at random (%(default)s)")
    _add_load(throughput, LOAD)
    add_fields(throughput, BenchOptions, JSON)
    serve_flags.add_unit_flags(throughput)


def _throughput(args: argparse.Namespace) -> int:
    from muxjax.commands.bench import throughput
    from muxjax.server.config import load_options

    unit = load_options(args.sources, serve_flags.settings(args)).unit
    return throughput.run(unit, _unit_load(args, unit, rate=float("inf")), args.seed, args.json)


def _add_report(report: argparse.ArgumentParser) -> None:
    report.set_defaults(command=_report)
    _add_files(report)
    add_fields(report, BenchOptions, JSON)


def _report(args: argparse.Namespace) -> int:
    from muxjax.commands.bench import report

    return report.run(args.files, read_fields(Targets, args), args.json)


def _add_plot(plot: argparse.ArgumentParser) -> None:
    plot.set_defaults(command=_plot)
    _add_files(plot)
    plot.add_argument("-o", "--output", type=file_path, required=True, metavar="FILE", help=".png or .svg; needs the extra plot")


def _plot(args: argparse.Namespace) -> None:
    from muxjax.commands.bench import report

    report.plot(args.files, args.output, read_fields(Targets, args))


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=file_path, nargs="+", metavar="RECORDS.jsonl", help="what --records of earlier runs wrote")
    add_fields(parser, Targets, TARGETS)


def _add_load(parser: argparse.ArgumentParser, texts: dict[str, str]) -> None:
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="a model of the trace or workload is called so")
    parser.add_argument("--ignore-eos", action="store_true", help="have every answer go on to its whole length")
    add_fields(parser, LoadOptions, texts)


def _unit_load(args: argparse.Namespace, unit: UnitOptions, when: Iterable[str] = (), **more: Any) -> LoadOptions:
    """A load on a unit's models, whose requests are cut so that every model takes them.

    Args:
      when: fields that tell when requests come, of those that the command line has.
    """
    longest = min((model.max_model_len for model in unit.models if model.max_model_len), default=None)
    said = {name: getattr(args, name) for name in (*LOAD, *when, "ignore_eos")}
    return LoadOptions(**said, **more, rename=tuple(args.rename), max_model_len=longest)


def _load(args: argparse.Namespace) -> LoadOptions:
    return read_fields(LoadOptions, _with_tuples(args, "model", "rename"))


def _bench(args: argparse.Namespace) -> BenchOptions:
    return read_fields(BenchOptions, _with_tuples(args, "seeds"))


def _with_tuples(args: argparse.Namespace, *names: str) -> argparse.Namespace:
    """The arguments, with lists as the options' classes have them."""
    return argparse.Namespace(**vars(args) | {name: tuple(getattr(args, name)) for name in names})


BENCH_COMMAND = Command(
    "bench",
    "measure running servers, or models without HTTP, under a load",
    _add_bench,
    ("muxjax bench serve --model small --num-prompts 100 --rate 4", "muxjax bench report a.jsonl"),
)
