"""All requests at once through a baseline, without a server: tokens made a second.

    python -m scripts.baselines.offline static_cache llama-3.1-8b --load-format dummy --requests 512 --mean-in 220 --mean-out 200
    python -m scripts.baselines.offline transformers_batching folder --lengths lengths.jsonl

Lengths are drawn log-normally as those of `scripts.bench_step --only offline` are, or read from JSON lines of {"prompt_tokens",
"output_tokens"}. Answers have the tokens asked for, whatever they are.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from muxjax.workload.lengths import draw_log_normal
from scripts.baselines import options, static_cache, transformers_batching
from scripts.baselines.engine import Engine, Request, check

TRANSFORMERS = "transformers_batching"
LEAST = 4
"""Fewest tokens that are drawn, of prompt and answer each."""


class Sizes(NamedTuple):
    """Tokens of each request's prompt and answer."""

    prompts: Sequence[int]
    answers: Sequence[int]


def draw(count: int, *, mean_in: float, mean_out: float, max_len: int, seed: int) -> Sizes:
    """Log-normal, of sigma 1, each within half of `max_len`; means are those before lengths are cut there."""
    rng = np.random.default_rng(seed)
    prompts, answers = (draw_log_normal(count, mean, sigma=1.0, least=LEAST, most=max_len // 2, rng=rng) for mean in (mean_in, mean_out))
    return Sizes(prompts.tolist(), answers.tolist())


def read(path: Path) -> Sizes:
    """
    Raises:
      ValueError, KeyError: a line is no JSON, or lacks a length.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return Sizes([int(line["prompt_tokens"]) for line in lines], [int(line["output_tokens"]) for line in lines])


def run(engine: Engine, sizes: Sizes, *, vocab: int, seed: int) -> dict[str, float]:
    """Numbers of a run: its tokens in and out, its seconds, and output tokens a second.

    Raises:
      ValueError: the engine could not answer one of them.
    """
    rng = np.random.default_rng(seed)
    requests = [Request(rng.integers(0, vocab, tokens).tolist(), answer) for tokens, answer in zip(*sizes, strict=True)]
    for request in requests:
        check(engine, request)
    started, made = time.perf_counter(), 0
    for request in requests:
        engine.submit(request)
    while engine.busy:
        made += len(engine.step())
    spent = time.perf_counter() - started
    assert made == sum(sizes.answers), f"{made} tokens were made in place of {sum(sizes.answers)}"
    prompt_tokens = sum(sizes.prompts)
    return {"requests": len(requests), "prompt_tokens": prompt_tokens, "output_tokens": made, "s": spent, "tokens_per_s": made / spent}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lengths", type=Path, help="JSON lines of prompt_tokens and output_tokens, in place of drawing them")
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--mean-in", type=float, default=220)
    parser.add_argument("--mean-out", type=float, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=2, help="runs of the same requests; the first may have much to make ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    engines = parser.add_subparsers(dest="engine", required=True)
    for name, add_arguments in {"static_cache": static_cache.add_arguments, TRANSFORMERS: transformers_batching.add_arguments}.items():
        options.add_arguments(of_engine := engines.add_parser(name))
        add_arguments(of_engine)
        _add_arguments(of_engine)
    args = parser.parse_args()
    spec = options.model(args).spec
    drawn = {"mean_in": args.mean_in, "mean_out": args.mean_out, "max_len": spec.max_len, "seed": args.seed}
    sizes = read(args.lengths) if args.lengths else draw(args.requests, **drawn)
    engine = _build(args)
    try:
        for _ in range(args.repeats):
            options.say(json.dumps({"what": "offline", "engine": args.engine, **run(engine, sizes, vocab=spec.vocab, seed=args.seed)}))
    finally:
        engine.close()


def _build(args: argparse.Namespace) -> Engine:
    if args.engine == TRANSFORMERS:
        return transformers_batching.build(args, streaming=False, report=options.say)
    engine = static_cache.build(args, report=options.say)
    engine.warm_up(report=options.say)
    return engine


if __name__ == "__main__":
    main()
