"""What steps of the static cache take, beside the floor that reading weights and cache at a copy's rate sets."""

import json
from collections.abc import Callable, Sequence

import numpy as np

from scripts.baselines.steps import Steps
from scripts.baselines.timing import copy_rate, replay_seconds

ROWS, CONTEXT = (1, 8, 32, 64, 128, 256), 576
PREFILLS = ((1, 256), (8, 256), (1, 1024))
"""Prompts, and tokens of each."""


def tell(steps: Steps, *, rows: Sequence[int] = ROWS, context: int = CONTEXT, report: Callable[[str], object] = print) -> None:
    """A JSON line for the rate, and for each number of rows and prefill that the cache has room for. Nobody may have a
    row yet: the cache is filled with random numbers, as zeros are faster to multiply."""
    for cache in (*steps.decoder.keys, *steps.decoder.values):
        cache.normal_()
    rate = copy_rate(steps.device)
    report(json.dumps({"what": "copy", "bytes_per_s": rate}))
    context = min(context, steps.max_len)
    for count in sorted((count for count in rows if count <= steps.rows), reverse=True):  # as a server compiles, for many rows first
        spent, floor_s = decode_s(steps, count, context), decode_bytes(steps, count, context) / rate
        report(
            json.dumps({"what": "decode", "rows": count, "context": context, "s": spent, "floor_s": floor_s, "of_floor": floor_s / spent})
        )
    for prompts, tokens in PREFILLS:
        if prompts <= steps.rows and tokens < steps.max_len:
            spent = _prefill_s(steps, prompts, tokens)
            report(
                json.dumps({"what": "prefill", "prompts": prompts, "tokens": tokens, "s": spent, "tokens_per_s": prompts * tokens / spent})
            )


def decode_s(steps: Steps, rows: int, context: int) -> float:
    """Seconds of a step of so many rows that stay as they are, each reading `context` tokens, launched as a server launches it."""
    plan = np.zeros((2, steps.rows), np.int32)
    plan[0, :rows] = context - 1
    steps.set_plan(plan)
    size, most = (next(size for size in sizes if size >= least) for sizes, least in ((steps.sizes, rows), (steps.contexts, context)))

    def launch() -> None:
        steps.decode(size, most)
        steps.tokens()

    spent = replay_seconds(launch, steps.device)
    steps.set_plan(np.zeros_like(plan))
    return spent


def decode_bytes(steps: Steps, rows: int, context: int) -> int:
    """What a step must read: the weights once, and each row's keys and values."""
    cache = steps.decoder.keys[0]
    kv_bytes = 2 * len(steps.decoder.keys) * cache.shape[2] * cache.shape[3] * cache.element_size()
    return steps.decoder.weights.read_bytes + rows * context * kv_bytes


def _prefill_s(steps: Steps, prompts: int, tokens: int) -> float:
    vocab = steps.decoder.spec.vocab
    drawn = np.random.default_rng(0).integers(0, vocab, (prompts, tokens)).tolist()
    return replay_seconds(lambda: steps.prefill(drawn, range(prompts)), steps.device, calls=4)
