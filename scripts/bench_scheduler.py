"""How long does the host take for a turn at 1,000 running sequences of 8 models?

    python -m scripts.bench_scheduler

A turn is view, plan, commit and record, with an executor that finishes every step at once; under `mux`, whose models have lanes of their
own, one that finishes a step a turn. Writes docs/results/scheduler-turn/.
"""

import argparse
import gc
import itertools
import os
import time
from collections import deque

import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.engine.executor import Done, Step
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import BY_NAME
from muxjax.types import Request, Sampling
from muxjax.workload.metrics import percentiles
from scripts import results

QUESTION = "scheduler-turn"
GOAL_MS, LANE_GOAL_MS = 2.0, 0.5
MODELS = 8
LAYOUT = CacheLayout(windows=(None,) * 32, kv_heads=8, head_dim=128, element_bytes=2)
MAX_TOKENS, PROMPT_TOKENS, OUTPUT_TOKENS = 2048, 200, (50, 400)
WARM_UP_TURNS, TURN_S = 500, 0.01
PHASES = ("view", "plan", "commit", "record")


def make_unit(sequences: int, total_blocks: int, *, lanes: bool) -> Unit:
    """8 models of LLaMA-8B's shape, with slots for a quarter more than their share of the sequences."""
    names = [f"model-{i}" for i in range(MODELS)]
    slots = sequences * 5 // (4 * MODELS)
    configs = [
        ModelConfig(name=name, layout=LAYOUT, slots=slots, max_tokens=MAX_TOKENS, lane=i if lanes else 0) for i, name in enumerate(names)
    ]
    return Unit(configs, total_blocks=total_blocks, token_budget=2048)


def requests(seed: int):
    """An endless supply, for the models in turn; lengths differ, so that requests do not end together."""
    rng = np.random.default_rng(seed)
    for i in itertools.count():
        sampling = Sampling(max_tokens=int(rng.integers(*OUTPUT_TOKENS)))
        yield Request(id=f"{i:08}", model=f"model-{i % MODELS}", prompt=(1,) * PROMPT_TOKENS, sampling=sampling, arrival_s=float(i))


def finish(steps: list[Step], at_s: float) -> list[Done]:
    """All steps, done at once."""
    return [Done(step_id=step.id, tokens=np.zeros(len(step.slots), np.int32), at_s=at_s) for step in steps]


def timed_turn(unit: Unit, policy, now_s: float, flying: deque[Step], at_once: int) -> tuple[list[float], int, int]:
    """Seconds of each phase of a turn and of its processor time, requests that ended, and jobs.

    Args:
      flying: steps of earlier turns, to which its own are added; so many of the first end.
    """
    cpu_s = time.thread_time()  # which takes longer than a view
    marks = [time.perf_counter()]
    view = unit.view(now_s)
    marks.append(time.perf_counter())
    plan = policy(view)
    marks.append(time.perf_counter())
    steps = unit.commit(plan, now_s=now_s)
    marks.append(time.perf_counter())
    flying.extend(steps)
    done = finish([flying.popleft() for _ in range(min(at_once, len(flying)))], now_s)
    start = time.perf_counter()
    outputs = unit.record(done)
    seconds = [after - before for before, after in itertools.pairwise(marks)] + [time.perf_counter() - start, time.thread_time() - cpu_s]
    return seconds, sum(output.finish is not None for output in outputs), len(steps)


def measure(policy: str, sequences: int, turns: int, seed: int) -> dict:
    """Turns of a unit that always holds so many sequences: whatever ends is replaced."""
    total_blocks = sequences * LAYOUT.blocks(PROMPT_TOKENS + OUTPUT_TOKENS[1])
    lanes = policy == "mux"
    unit, supply = make_unit(sequences, total_blocks, lanes=lanes), requests(seed)
    for request in itertools.islice(supply, sequences):
        unit.submit(request)
    gc.collect()
    gc.freeze()  # as an engine does when it starts
    samples, flying = [], deque[Step]()
    for i in range(WARM_UP_TURNS + turns):
        seconds, ended, jobs = timed_turn(unit, BY_NAME[policy], i * TURN_S, flying, 1 if lanes else MODELS)
        samples.append((*seconds, jobs, sum(model.running for model in unit.stats().models)))
        for request in itertools.islice(supply, ended):
            unit.submit(request)
    return _values(np.array(samples[WARM_UP_TURNS:]))


def _values(samples: np.ndarray) -> dict:
    total_ms = samples[:, : len(PHASES)].sum(axis=1) * 1e3
    phases = {phase: percentiles((samples[:, i] * 1e3).tolist(), (50, 99)) for i, phase in enumerate(PHASES)}
    return {
        "turn_ms": percentiles(total_ms.tolist(), (50, 99, 100)),
        "processor_ms": percentiles((samples[:, len(PHASES)] * 1e3).tolist(), (50, 99)),
        "load_average": os.getloadavg()[0],
        "phase_ms": phases,
        "mean_jobs": float(samples[:, -2].mean()),
        "mean_running": float(samples[:, -1].mean()),
        "turns_ms": [round(ms, 4) for ms in total_ms.tolist()],
    }


def summary(records: list[dict]) -> str:
    """A row a policy."""
    head = (
        "policy",
        "jobs a turn",
        "running",
        "p50",
        "p99",
        "max",
        "processor p50",
        "processor p99",
        *(f"{phase} p50" for phase in PHASES),
    )
    return results.table(head, [_row(record) for record in records])


def _row(record: dict) -> tuple:
    values = record["values"]
    times = [values["turn_ms"][at] for at in ("p50", "p99", "p100")] + [values["processor_ms"][at] for at in ("p50", "p99")]
    times += [values["phase_ms"][phase]["p50"] for phase in PHASES]
    return record["config"]["policy"], f"{values['mean_jobs']:.1f}", f"{values['mean_running']:.0f}", *(f"{ms:.2f} ms" for ms in times)


README = """
# How long does the host take for a turn?

A turn of the loop (view, plan, commit, record) with {sequences} running sequences over {models} models of LLaMA-8B's shape, an executor
that finishes every step at once, and a new request for every one that ends; under `mux` every model has a lane, and one step ends a turn.
Goals: p99 of {goal_ms:g} ms at most, and of {lane_goal_ms:g} ms for a turn that serves one lane.
Made by `python -m scripts.bench_scheduler`; every turn is in [runs.jsonl](runs.jsonl). Device: {device}.

{summary}

**{answer}** Under ADBS a turn launches and records a step of nearly all models at once, {sequences} tokens or so;
the others do one job a turn. "Processor" is the thread's own time, without what other programs took
of the machine, whose load average was {load:.1f}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    records = []
    for policy in BY_NAME:
        config = {"policy": policy, "models": MODELS, "sequences": args.sequences, "turns": args.turns}
        values = measure(policy, args.sequences, args.turns, args.seed)
        records.append(results.run_record(device=results.host(), config=config, seed=args.seed, values=values))
    results.write_runs(QUESTION, "runs", records)
    worst_ms = max(record["values"]["turn_ms"]["p99"] for record in records)
    lane_ms = next(record["values"]["turn_ms"]["p99"] for record in records if record["config"]["policy"] == "mux")
    answer = (
        f"The worst p99 is {worst_ms:.2f} ms: the goal is {'met' if worst_ms <= GOAL_MS else 'missed'}. "
        f"For one lane it is {lane_ms:.2f} ms: {'met' if lane_ms <= LANE_GOAL_MS else 'missed'}."
    )
    text = README.format(
        sequences=args.sequences,
        models=MODELS,
        goal_ms=GOAL_MS,
        lane_goal_ms=LANE_GOAL_MS,
        device=results.host(),
        summary=summary(records),
        answer=answer,
        load=max(record["values"]["load_average"] for record in records),
    )
    results.write_readme(QUESTION, text)
    print(summary(records))


if __name__ == "__main__":
    main()
