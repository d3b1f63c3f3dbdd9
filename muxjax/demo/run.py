"""`muxjax demo`: three tiny models on one cache answer questions at the same time."""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from muxjax.demo.board import Board, Row
from muxjax.demo.worlds import WORLDS
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.scheduler.policies import BY_NAME
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import listening, until_signal
from muxjax.server.net.sockets import Sockets, bound
from muxjax.server.service import Service

SHIPPED = Path(__file__).parent / "data"
SEED = 6
FEWEST_RIGHT_FRAC = 0.95
DRAIN_S = 5.0


def main(args: argparse.Namespace) -> int:
    """Serves the models and asks them, after training them if that is wanted; 1 if too many answers are wrong.

    Args:
      args: train, keep, port, policy; out, model and minutes are for training.
    Raises:
      ConfigError: an option out of its range, or no `openai` client.
    """
    _check(args)
    http = HttpOptions(port=args.port)
    _check_client()
    folders = _trained(args) if args.train else shipped()
    begin_s = time.monotonic()
    with bound(http) as sockets:
        service = build_service(replace(demo_options(folders), policy=args.policy))
        return asyncio.run(_serve(service, http, sockets, keep=args.keep, begin_s=begin_s))


def shipped() -> list[Path]:
    """The folders of the models that come with the package."""
    return [SHIPPED / name for name in WORLDS]


def demo_options(folders: Sequence[Path]) -> UnitOptions:
    """The models, each called as its folder, on an arena so small that they must share it."""
    models = tuple(ModelOptions(name=folder.name, path=folder, max_num_seqs=8) for folder in folders)
    return UnitOptions(models=models, max_num_batched_tokens=256, kv_cache_bytes=2**20, block_bytes=2**11)


def _trained(args: argparse.Namespace) -> list[Path]:
    from muxjax.demo.make import make_models  # imports Orbax, which takes seconds

    names = [args.model] if args.model else list(WORLDS)
    make_models(names, args.out, args.minutes)
    return [args.out / name for name in names]


async def _serve(service: Service, http: HttpOptions, sockets: Sockets, *, keep: bool, begin_s: float) -> int:
    async with listening(service, http, sockets) as base_url:
        right_frac = await _talk(base_url, [model.name for model in service.catalog], begin_s)
        if keep:
            await _stay(service, base_url)
    return 0 if right_frac >= FEWEST_RIGHT_FRAC else 1


async def _talk(base_url: str, models: Sequence[str], begin_s: float) -> float:
    """Asks every model everything at once and prints what comes; the share of right answers."""
    from muxjax.demo.ask import ask_all, peak_blocks, questions, story

    told = {model: story(WORLDS[model], SEED) for model in models}
    rows = [Row(model=model, item=item) for model in models for item in questions(WORLDS[model], told[model], SEED)]
    print("\nEach model is told a story of its own:")
    for model in models:
        print(f"  {model:<8}{told[model].text}")
    print(f"\n{len(rows)} questions at the same time, to {base_url}:")
    start_s = time.monotonic()
    await ask_all(base_url, rows, Board(rows).show)
    _summarize(rows, *await peak_blocks(base_url), start_s - begin_s)
    return sum(row.right for row in rows) / len(rows)


def _summarize(rows: Sequence[Row], most: dict[str, int], total: int, ready_s: float) -> None:
    firsts, ends = [row.first_s for row in rows if row.first_s], [row.ended_s for row in rows if row.ended_s]
    print(f"\n{sum(row.right for row in rows)} of {len(rows)} answers are right.")
    print(f"First answer {ready_s + min(ends):.1f} s after the start, of which the models took {ready_s:.1f} s to be ready;")
    print(f"first words {min(firsts):.2f} s after the questions, the last answer after {max(ends):.2f} s.")
    shares = ", ".join(f"{model} {blocks / total:.0%}" for model, blocks in most.items())
    print(f"Most of the shared cache ({total} head blocks) that each model held: {shares}.")


async def _stay(service: Service, base_url: str) -> None:
    """Prints what to try, and serves until a signal comes."""
    body = json.dumps({"model": next(iter(service.catalog)).name, "messages": [{"role": "user", "content": "Who are you?"}]})
    print("\nThe server stays up until Ctrl-C. Try:")
    address = base_url.removesuffix("/v1")
    print(f"  curl {base_url}/chat/completions -H 'Content-Type: application/json' -d '{body}'")
    print(f"  muxjax chat --url {address}    or the page at {address}/", flush=True)
    await until_signal(service, DRAIN_S)


def _check(args: argparse.Namespace) -> None:
    """Raises ConfigError for what would be found after minutes, or not at all."""
    require(args.policy is None or args.policy in BY_NAME, "policy", args.policy, "one of " + ", ".join(BY_NAME))
    require(args.model is None or args.model in WORLDS, "model", args.model, "one of " + ", ".join(WORLDS))
    require(args.minutes is None or 0 < args.minutes < float("inf"), "minutes", args.minutes, "over 0 and finite")
    for field in ("model", "minutes"):
        require(args.train or getattr(args, field) is None, field, getattr(args, field), "left out without --train")


def _check_client() -> None:
    try:
        import openai  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("the demo talks through the openai client: install it with `pip install openai`") from error
