"""How many models fit on one GPU, and how many tokens can each have, in one process with one cache and in a process a model?

python -m scripts.bench_models_fit --work DIR     measures on a GPU what processes take beside weights and cache
python -m scripts.bench_models_fit --page         only writes the page again
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from muxjax.bench.backends.check import samples
from muxjax.bench.backends.fleet import Fleet
from muxjax.bench.backends.known import backend_of
from muxjax.bench.backends.running import device_bytes, device_name, serving, used_bytes
from muxjax.commands.bench.fleet import fleet_of
from muxjax.specs import published
from muxjax.units import show_bytes
from muxjax.workload.load import Load
from scripts import results
from scripts.experiments.measure import arrivals, unit_of
from scripts.experiments.memory import Card, Needs, apart_tokens, cards_apart, most_apart, most_together, together_tokens
from scripts.experiments.question import STATIC, Question
from scripts.experiments.questions import BY_NAME
from scripts.experiments.verdicts import Line

QUESTION = "models-fit"
OURS = "mux"
ALIKE = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
COUNTS = (1, 2, 4, 8, 16, 27)
LEAST_TOKENS = 2048
"""One sequence of the longest that the other experiments serve."""
MEASURED = ((OURS, ("1b",)), (OURS, ("8b",)), (OURS, ("1b", "3b", "8b")), (STATIC, ("1b",)), (STATIC, ("8b",)))
"""Backends, and the models that each serves: those of other questions, whose programs are compiled."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("~/.cache/muxjax/experiments"), help="folder for models and logs")
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    if not args.page:
        lines = []
        for line in measured(args.work.expanduser()):
            lines.append(line)
            results.write_runs(QUESTION, "processes", lines)
    text = page(results.read_runs(QUESTION))
    results.write_readme(QUESTION, text)
    print(text)


def measured(work: Path) -> Iterator[Line]:
    """What each backend takes of the GPU once it has answered; XLA takes only what it needs, for once."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    question = BY_NAME["three-models"]
    for name, models in MEASURED:
        backend = backend_of(name)
        before_bytes = used_bytes()
        fleet = _fleet(question, models, work)
        with serving(backend, fleet, work / "logs") as running:
            samples(running.urls)
            taken = used_bytes() - before_bytes
        weights = sum(member.weight_bytes for member in fleet.members)
        config = {"backend": backend.name, "about": backend.about, "models": list(models), "cache_bytes": fleet.cache_bytes}
        values = {
            "total_bytes": device_bytes(),
            "used_bytes": taken,
            "weight_bytes": weights,
            "beside_bytes": taken - weights - fleet.cache_bytes,
            "start_s": running.start_s,
        }
        yield results.run_record(device=device_name(), config=config, seed=0, values=values)


def _fleet(question: Question, models: Sequence[str], work: Path) -> Fleet:
    some = replace(
        question,
        models={name: question.models[name] for name in models},
        streams=tuple(stream for stream in question.streams if stream.model in models),
        duration_s=1.0,
    )
    return fleet_of(unit_of(some, work / "three-models"), Load(arrivals=arrivals(some, 1), window_s=1.0), device_bytes())


def page(lines: Sequence[Line]) -> str:
    """For people."""
    card = card_of(lines)
    head = ("backend", "models", "weights", "cache", "the GPU's memory in use", "beside weights and cache")
    return "\n\n".join(
        (
            "# How many models fit on one GPU?",
            "**Question.** How many models fit on one GPU, and how many tokens of cache can each have, in one process with one cache and in"
            " a process a model?",
            f"**Command.** `python -m scripts.bench_models_fit` on {lines[0]['device']}, commit {lines[0]['commit']}.",
            f"**Answer.** {answer(card)}",
            results.table(head, (_measured_row(line) for line in lines)),
            f"The rest is arithmetic: {show_bytes(card.total_bytes)} of memory; beside weights and cache"
            f" {show_bytes(card.process_bytes)} for a process with one model and {show_bytes(card.shared_bytes)} for the one that several"
            " share, both as measured of muxjax;"
            f" bfloat16, and a model is served if it can have {LEAST_TOKENS} tokens. In a process a model, each cache is its model's alone;"
            " in one process whoever is asked may have all of the cache that the others do not use.",
            results.table(("alike", "fit in a process each", "fit in one process", "times"), (_most_row(card, shape) for shape in ALIKE)),
            "Tokens of cache that a model can have, in a process each / in one process while the others rest:",
            results.table(("models", *ALIKE), (_tokens_row(card, count) for count in COUNTS)),
        )
    )


def answer(card: Card) -> str:
    """In a sentence or two."""
    needs = Needs.of(published.BY_NAME[ALIKE[0]])
    tail = [Needs.of(published.BY_NAME[shape]) for shape in BY_NAME["long-tail"].models.values()]
    return (
        f"{most_together(card, needs)} models of {ALIKE[0]}'s shape in one process, {most_apart(card, needs)} in a process each. The 27"
        f" models of the long tail need {cards_apart(card, tail)} such GPUs in a process each; in one process they fit on one, with"
        f" {together_tokens(card, tail, needs):,.0f} tokens for the one that is asked."
    )


def card_of(lines: Sequence[Line]) -> Card:
    """The GPU that muxjax's own processes were measured on."""
    own = [line for line in lines if line["config"]["backend"] == OURS]
    beside = {len(line["config"]["models"]): line["values"]["beside_bytes"] for line in own}
    alone = max(line["values"]["beside_bytes"] for line in own if len(line["config"]["models"]) == 1)
    return Card(
        total_bytes=lines[0]["values"]["total_bytes"],
        process_bytes=alone,
        shared_bytes=beside[max(beside)],
        least_tokens=LEAST_TOKENS,
    )


def _measured_row(line: Line) -> Sequence[str]:
    config, found = line["config"], line["values"]
    sizes = (found["weight_bytes"], config["cache_bytes"], found["used_bytes"], found["beside_bytes"])
    return (config["backend"], ", ".join(config["models"]), *map(show_bytes, sizes))


def _most_row(card: Card, shape: str) -> Sequence[object]:
    needs = Needs.of(published.BY_NAME[shape])
    apart, together = most_apart(card, needs), most_together(card, needs)
    return shape, apart, together, f"{together / apart:.2f}"


def _tokens_row(card: Card, count: int) -> Sequence[object]:
    cells = []
    for shape in ALIKE:
        needs = Needs.of(published.BY_NAME[shape])
        apart, together = apart_tokens(card, [needs] * count), together_tokens(card, [needs] * count, needs)
        cells.append(f"{_room(apart)} / {_room(together)}")
    return count, *cells


def _room(tokens: float) -> str:
    return f"{tokens:,.0f}" if tokens >= LEAST_TOKENS else "do not fit"


if __name__ == "__main__":
    main()
