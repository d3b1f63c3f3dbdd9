"""Flags of `muxjax bench`."""

import argparse

from muxjax.bench.targets import Targets
from muxjax.commands.bench.options import BenchOptions, LoadOptions
from muxjax.commands.flags import add_fields, read_fields

LOAD = {
    "trace": "requests to replay, at their own times",
    "format": "of the trace: muxjax (JSON lines), azure, burst-gpt or mooncake",
    "workload": "requests of a preset, such as lmsys-16 or llama-trio",
    "dataset": "prompts: ShareGPT's JSON, or lines with prompt or messages, and output_tokens",
    "rate": "requests a second of all models, inf for all at once; of random prompts and data sets",
    "burstiness": "shape of the gaps' gamma distribution: 1 is Poisson, less comes in clumps",
    "rate_scale": "requests come so many times as fast",
    "num_prompts": "so many requests (100, or the whole trace)",
    "duration_s": "requests of so many seconds, in place of their number (60 of a workload)",
    "random_input_len": "tokens of each random prompt",
    "random_output_len": "tokens of each answer to one",
    "output_len": "tokens of each answer to a data set, in place of what it says",
    "prompt_ids_below": "random prompts have tokens below",
    "endpoint": "completions or chat (chat where prompts are texts)",
}
BENCH = {
    "base_url": "of a server's API",
    "api_key": "that it wants (what is in OPENAI_API_KEY)",
    "seeds": "of what is drawn at random, a run each",
    "warmup": "requests of each model that are asked alone before, of which --slo-scale is a multiple",
    "timeout_s": "seconds after which a request has failed",
    "label": "of the runs in files and pictures",
    "records": "where a line for each request is written; runs are appended",
    "json": "where the numbers are written, under vLLM's keys",
}
TARGETS = {
    "ttft_s": "seconds to the first token, of a good answer",
    "tpot_s": "seconds for each further token",
    "e2e_s": "seconds to the last token",
    "slo_scale": "where no seconds are given: the whole answer within so many times what it takes alone",
}


def add_bench(bench: argparse.ArgumentParser) -> None:
    """The commands of `muxjax bench`."""
    commands = bench.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="send a load to running servers of OpenAI's API"))


def _add_serve(serve: argparse.ArgumentParser) -> None:
    """Flags of a load on running servers."""
    serve.set_defaults(command=_serve)
    _add_load(serve)
    add_fields(serve, BenchOptions, BENCH)
    add_fields(serve, Targets, TARGETS)


def _serve(args: argparse.Namespace) -> int:
    from muxjax.commands.bench import serve

    return serve.run(load_of(args), bench_of(args), read_fields(Targets, args))


def load_of(args: argparse.Namespace) -> LoadOptions:
    return read_fields(LoadOptions, with_tuples(args, "model", "rename"))


def bench_of(args: argparse.Namespace) -> BenchOptions:
    return read_fields(BenchOptions, with_tuples(args, "seeds"))


def with_tuples(args: argparse.Namespace, *names: str) -> argparse.Namespace:
    """The arguments, with lists as the options' classes have them."""
    return argparse.Namespace(**vars(args) | {name: tuple(getattr(args, name)) for name in names})


def _add_load(parser: argparse.ArgumentParser) -> None:
    text = "whom to ask, evenly; may be given more than once (all there are)"
    parser.add_argument("--model", action="append", default=[], metavar="NAME[=URL]", help=text)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="a model of the trace or workload is called so")
    parser.add_argument("--ignore-eos", action="store_true", help="have every answer go on to its whole length")
    add_fields(parser, LoadOptions, LOAD)
