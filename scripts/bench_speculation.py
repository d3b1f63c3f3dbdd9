"""How much faster are answers made whose tokens are drafted, by how many of the drafts are right?

    python -m scripts.bench_speculation [llama-3.1-8b]

A model with random weights answers the same prompts, greedy, so many at once: as it is, and with drafts that are the tokens of these
answers, of which a share is spoiled. Writes docs/results/speculation/.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from muxjax.engine.loop import turn
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.engine.stats import ModelStats
from muxjax.engine.unit import Unit
from muxjax.launch.build import model_config
from muxjax.launch.worker import Worker, start_worker
from muxjax.model_spec import ModelSpec
from muxjax.progress import Progress
from muxjax.scheduler.policies import by_name
from muxjax.specs import published
from muxjax.specs.dummy import write_dummy_models
from muxjax.types import Ints, Request, Sampling
from scripts import results

QUESTION = "speculation"
DRAFTS = 4
BATCHES = (1, 4, 12)
RIGHT = (0.5, 0.7, 0.9)
"""Of the drafts whose row is right so far."""
PROMPT_TOKENS, ANSWER_TOKENS = 128, 256
TINY = ModelSpec(vocab=64, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=48, max_len=512, windows=(None,) * 2, dtype="float32")


class Answered(NamedTuple):
    """Answers that were made together, the seconds from the first of their tokens to the last, and what the model did for it."""

    texts: list[tuple[int, ...]]
    seconds: float
    stats: ModelStats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", default="llama-3.1-8b")
    parser.add_argument("--tiny", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--answer-tokens", type=int, default=ANSWER_TOKENS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    spec = TINY if args.tiny else published.BY_NAME[args.shape]
    with tempfile.TemporaryDirectory() as folder:
        options = _options(write_dummy_models(Path(folder), {"m": spec})["m"], tiny=args.tiny)
        worker = start_worker(options, Progress(bars=False))
        records = [
            results.run_record(
                device=worker.device,
                config={
                    "shape": "tiny" if args.tiny else args.shape,
                    "batch": batch,
                    "drafts": DRAFTS,
                    "answer_tokens": args.answer_tokens,
                },
                seed=args.seed,
                values=_values(options, worker, batch, args.answer_tokens, args.seed),
            )
            for batch in args.batches
        ]
    print(page(records))
    if not args.tiny:
        results.write_runs(QUESTION, args.shape, records)
        results.write_readme(QUESTION, page(records))


def _options(path: Path, *, tiny: bool) -> UnitOptions:
    drafted = SpeculativeOptions(method="ngram", num_speculative_tokens=DRAFTS)
    model = ModelOptions(name="m", path=path, load_format="dummy", max_num_seqs=64, max_model_len=512, speculative_config=drafted)
    return UnitOptions(models=(model,), wait_for_all=True, kv_cache_bytes=2**26 if tiny else 8 * 2**30)


def _values(options: UnitOptions, worker: Worker, batch: int, tokens: int, seed: int) -> dict:
    draw, vocab = random.Random(seed), worker.models["m"].spec.vocab
    prompts = [tuple(draw.randrange(vocab) for _ in range(PROMPT_TOKENS)) for _ in range(batch)]
    plain = [_answer(options, worker, prompts, tokens, None) for _ in range(2)][-1]  # the first one warms up
    wholes = {prompt: (*prompt, *text) for prompt, text in zip(prompts, plain.texts, strict=True)}
    drafted = {right: _answer(options, worker, prompts, tokens, _known(wholes, right, vocab, draw)) for right in RIGHT}
    numbers = [{"right": right, **_numbers(plain, one)} for right, one in drafted.items()]
    return {"plain_s": plain.seconds, "steps": plain.stats.decode_steps, "drafted": numbers}


def _known(wholes: dict[tuple[int, ...], tuple[int, ...]], right: float, vocab: int, draw: random.Random) -> Callable[[Ints, int], Ints]:
    """Drafts of the answers that are known, a share of them right."""

    def propose(text: Ints, most: int) -> Ints:
        following = wholes[tuple(text[:PROMPT_TOKENS].tolist())][len(text) : len(text) + most]
        return np.array([token if draw.random() < right else (token + 1) % vocab for token in following], np.int32)

    return propose


def _answer(
    options: UnitOptions,
    worker: Worker,
    prompts: Sequence[tuple[int, ...]],
    tokens: int,
    propose: Callable[[Ints, int], Ints] | None,
) -> Answered:
    """Answers of all prompts at once, by a unit of their own."""
    config = model_config(options, worker.kv_dtype, worker.control, options.models[0], worker.models["m"])
    speculation = config.speculation
    assert isinstance(speculation, Speculation)
    config = replace(config, speculation=replace(speculation, propose=propose) if propose else None)
    unit = Unit([config], total_blocks=worker.total_blocks, token_budget=options.max_num_batched_tokens, prefix_caching=False)
    for i, prompt in enumerate(prompts):
        sampling = Sampling(temperature=0.0, max_tokens=tokens)
        unit.submit(Request(id=str(i), model="m", prompt=prompt, sampling=sampling, arrival_s=0.0))
    texts: list[list[int]] = [[] for _ in prompts]
    times_s = []
    while not unit.idle:
        for output in turn(unit, by_name("adbs"), worker.executor, _Clock()):
            assert output.token is not None
            texts[int(output.request_id)].append(output.token)
            times_s.append(output.at_s)
    return Answered([tuple(text) for text in texts], max(times_s) - min(times_s), unit.stats().models[0])


class _Clock:
    def now_s(self) -> float:
        return time.monotonic()


def _numbers(plain: Answered, drafted: Answered) -> dict:
    stats = drafted.stats
    same = sum(one == other for one, other in zip(plain.texts, drafted.texts, strict=True))
    return {
        "seconds": drafted.seconds,
        "steps": stats.decode_steps,
        "draft_tokens": stats.draft_tokens,
        "accepted_tokens": stats.accepted_tokens,
        "equal": same / len(plain.texts),
    }


def page(records: Sequence[dict]) -> str:
    """For people."""
    config, rows = records[0]["config"], [row for record in records for row in _rows(record)]
    head = ("answers at once", "right", "acceptance", "tokens/s", "with drafts", "times as fast", "tokens a step, times", "equal answers")
    return "\n\n".join(
        (
            "# How much faster are answers made whose tokens are drafted, by how many of the drafts are right?",
            f"{config['shape']} with random weights, greedy, prompts of {PROMPT_TOKENS} random tokens, answers of"
            f" {config['answer_tokens']},"
            f" up to {config['drafts']} drafts a token, which are known beforehand and spoiled at random: making them costs nothing here."
            " Right: of drafts that follow right ones, or none; acceptance: of all drafts, those that became part of an answer. Made"
            f" by `python -m scripts.bench_speculation`; device: {records[0]['device']}, commit {records[0]['commit']}.",
            results.table(head, rows),
            "Answers that are not equal differ from a tie on: steps of other rows round otherwise in bf16.",
        )
    )


def _rows(record: dict) -> list[tuple]:
    batch, values = record["config"]["batch"], record["values"]
    tokens = batch * (record["config"]["answer_tokens"] - 1)
    return [
        (
            batch,
            drafted["right"],
            f"{drafted['accepted_tokens'] / max(1, drafted['draft_tokens']):.2f}",
            f"{tokens / values['plain_s']:,.0f}",
            f"{tokens / drafted['seconds']:,.0f}",
            f"{values['plain_s'] / drafted['seconds']:.2f}",
            f"{values['steps'] / drafted['steps']:.2f}",
            f"{drafted['equal']:.0%}",
        )
        for drafted in values["drafted"]
    ]


if __name__ == "__main__":
    main()
