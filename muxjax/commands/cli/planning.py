"""Commands that decide what runs where, and what would come of it."""

import argparse

from muxjax.commands import serve_flags
from muxjax.commands.cli.parser import Command
from muxjax.commands.flags import add_fields, defaults_of, file_path, one_of, read_fields, seconds, with_default
from muxjax.commands.profile_grid import Grid
from muxjax.commands.simulation.options import SimulateOptions
from muxjax.engine.options import UnitOptions
from muxjax.scheduler.policies import BY_NAME, OTHER_NAMES

_DEFAULT_COSTS = "what was measured for the package"


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
    place.add_argument("--window", type=seconds, default=60.0, metavar="SECONDS", help="of --from-metrics, or such as 10m (%(default)g)")
    text = "after which the best placement until then is taken (the search ends by itself)"
    place.add_argument("--time-limit", type=seconds, metavar="SECONDS", help=text)


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
    from muxjax.commands.simulation import simulate

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
    profile.add_argument("--compilation-cache-dir", default=cache_dir, metavar="DIR", help=text)
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


COMMANDS = (
    Command(
        "place",
        "decide which models share which devices of a cluster",
        _add_place,
        ("muxjax place problem.yaml", "muxjax place problem.yaml -o placement.json --explain"),
    ),
    Command(
        "simulate",
        "try a placement under a load, without devices",
        _add_simulate,
        ("muxjax simulate problem.yaml placement.json", "muxjax simulate problem.yaml placement.json --workload lmsys-16 --goodput 0.99"),
    ),
    Command(
        "profile",
        "measure steps of models on this machine, for placement",
        _add_profile,
        ("muxjax profile llama-3.1-8b --tp 1 2 -o costs.json",),
    ),
)
