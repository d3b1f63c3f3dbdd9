"""One way in a process of its own: `python -m scripts.colocation.child CASE`, as `bench_colocation` calls it. A JSON line a load."""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from muxjax.engine.engine import Engine
from muxjax.engine.job_records import JobRecord
from muxjax.engine.options import UnitOptions
from muxjax.launch.build import build
from muxjax.specs.dummy import write_dummy_models
from muxjax.types import Finish, Output, Request, Sampling
from muxjax.workload.metrics import percentiles
from muxjax.workload.trace import Arrival
from scripts import results
from scripts.colocation.ways import HIGHEST, LOADS, RISING, SHOWN_AT_S, SHOWN_S, TINY, TPOT_S, TTFT_S, WITHIN, Case, unit

WAIT_S = 120.0


@dataclass(slots=True, kw_only=True)
class Seen:
    """A request as its client sees it."""

    arrival: Arrival
    due_s: float
    at_s: list[float] = field(default_factory=list)


class Clients:
    """An engine's users: each asks when it is due, whether others have been answered or not."""

    def __init__(self, engine: Engine, vocab: Mapping[str, int]):
        self._engine, self._vocab, self._number = engine, vocab, 0
        self._open: dict[str, Seen] = {}
        self._finished = threading.Semaphore(0)
        self.faults: list[str] = []
        engine.start(self._hear)

    def replay(self, arrivals: Sequence[Arrival], seed: int) -> tuple[list[Seen], float]:
        """All requests, ended, and the most seconds that one was asked after it was due."""
        rng = np.random.default_rng([seed, self._number])  # no load begins its prompts as another did: they would be found in the cache
        began_s, lag_s, seen = time.monotonic() + 0.1, 0.0, []
        for arrival in arrivals:
            due_s = began_s + arrival.time_s
            prompt = tuple(rng.integers(3, self._vocab[arrival.model], arrival.prompt_tokens).tolist())
            time.sleep(max(0.0, due_s - time.monotonic()))
            lag_s = max(lag_s, time.monotonic() - due_s)
            seen.append(self._ask(arrival, prompt, due_s))
        for _ in seen:
            if not self._finished.acquire(timeout=WAIT_S):
                raise SystemExit("a request does not end")
        return seen, lag_s

    def _ask(self, arrival: Arrival, prompt: tuple[int, ...], due_s: float) -> Seen:
        self._number += 1
        request_id, seen = str(self._number), Seen(arrival=arrival, due_s=due_s)
        self._open[request_id] = seen
        sampling = Sampling(temperature=0.0, max_tokens=arrival.output_tokens)
        self._engine.submit(Request(id=request_id, model=arrival.model, prompt=prompt, sampling=sampling, arrival_s=due_s))
        return seen

    def _hear(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._open[output.request_id].at_s.append(output.at_s)
            if output.finish:
                if output.finish is not Finish.LENGTH:
                    self.faults.append(f"{output.request_id}: {output.finish.name}")
                del self._open[output.request_id]
                self._finished.release()


def main() -> None:
    values = json.loads(sys.argv[1])
    case = Case(**values | {"loads": tuple(values["loads"])})
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.monotonic()
        built = build(options(case, Path(folder)), report=lambda line: print(line, file=sys.stderr), progress=False)
        jobs: list[JobRecord] = []
        built.engine.watch(jobs.append)
        clients = Clients(built.engine, {name: spec.vocab for name, spec in case.specs.items()})
        clients.replay([Arrival(0.0, name, 40, 20) for name in case.specs for _ in range(3)], 0)
        start_s = time.monotonic() - began_s
        for load in case.loads:
            for name, arrivals in (RISING if load == HIGHEST else {load: LOADS[load]}).items():
                jobs.clear()
                seen, lag_s = clients.replay(asked(case, arrivals(case.seed)), case.seed)
                told = measures(seen, jobs) | {"lag_s": lag_s, "faults": clients.faults[:5], "start_s": start_s}
                config = {"way": case.way, "load": name, "options": case.options, "slots": case.slots}
                record = results.run_record(device=jax.devices()[0].device_kind, config=config, seed=case.seed, values=told)
                print(json.dumps(record), flush=True)
                if load == HIGHEST and told["attainment"] < WITHIN:
                    break
        built.engine.stop()


def asked(case: Case, arrivals: list[Arrival]) -> list[Arrival]:
    """Of a load; toys are asked the first hundred that they can answer."""
    short = [arrival for arrival in arrivals if arrival.prompt_tokens + arrival.output_tokens < TINY.max_len]
    return short[:100] if case.tiny else arrivals


def options(case: Case, folder: Path) -> UnitOptions:
    """The unit of a case."""
    more = {"wait_for_all": not case.tiny, **case.options}
    return unit(write_dummy_models(folder, case.specs), programs=case.programs, slots=case.slots, tiny=case.tiny, more=more)


def measures(seen: Sequence[Seen], jobs: Iterable[JobRecord]) -> dict[str, Any]:
    """What the users saw, together and by model, and what the steps were."""
    jobs = list(jobs)
    models = sorted({one.arrival.model for one in seen})
    began_s, last_s, end_s = min(one.due_s for one in seen), max(one.due_s for one in seen), max(one.at_s[-1] for one in seen)
    return {
        "requests": len(seen),
        "seconds": end_s - began_s,
        "asked_per_s": len(seen) / (last_s - began_s) if last_s > began_s else None,
        "requests_per_s": len(seen) / (end_s - began_s),
        "tokens_per_s": sum(len(one.at_s) for one in seen) / (end_s - began_s),
        "ttft_s": percentiles([ttft_s(one) for one in seen]),
        "attainment": sum(ttft_s(one) <= TTFT_S and tpot_s(one) <= TPOT_S for one in seen) / len(seen),
        "models": {model: of_model([one for one in seen if one.arrival.model == model]) for model in models},
        "steps": {f"{model} {phase}": of_steps(own) for (model, phase), own in by_kind(jobs).items()},
        "padding": sum(job.padding for job in jobs) / max(1, sum(job.padding + job.tokens for job in jobs)),
        "timeline": timeline(jobs, began_s + SHOWN_AT_S),
    }


def timeline(jobs: Iterable[JobRecord], begin_s: float) -> list[list[Any]]:
    """Lane, model, phase, begin and end of the jobs of SHOWN_S from that time on, in seconds since then."""
    shown = [job for job in jobs if job.end_s > begin_s and job.start_s < begin_s + SHOWN_S]
    return [[job.lane, job.model, job.phase, round(job.start_s - begin_s, 5), round(job.end_s - begin_s, 5)] for job in shown]


def of_model(seen: Sequence[Seen]) -> dict[str, Any]:
    """What the users of one model saw."""
    gaps = np.concatenate([np.diff(one.at_s) for one in seen])
    return {
        "requests": len(seen),
        "ttft_s": percentiles([ttft_s(one) for one in seen]),
        "tpot_s": percentiles([tpot_s(one) for one in seen if len(one.at_s) > 1]),
        "gap_s": percentiles(gaps.tolist()),
        "attainment": sum(ttft_s(one) <= TTFT_S and tpot_s(one) <= TPOT_S for one in seen) / len(seen),
    }


def of_steps(jobs: Sequence[JobRecord]) -> dict[str, float]:
    """Steps of one kind: how many, their means, and their padding."""
    tokens, padding = sum(job.tokens for job in jobs), sum(job.padding for job in jobs)
    return {
        "steps": len(jobs),
        "rows": sum(job.rows for job in jobs) / len(jobs),
        "tokens": tokens / len(jobs),
        "seconds": sum(job.end_s - job.start_s for job in jobs) / len(jobs),
        "padding": padding / (padding + tokens),
    }


def by_kind(jobs: Iterable[JobRecord]) -> dict[tuple[str, str], list[JobRecord]]:
    """Jobs by model and phase."""
    kinds: dict[tuple[str, str], list[JobRecord]] = {}
    for job in jobs:
        kinds.setdefault((job.model, job.phase), []).append(job)
    return dict(sorted(kinds.items()))


def ttft_s(one: Seen) -> float:
    return one.at_s[0] - one.due_s


def tpot_s(one: Seen) -> float:
    return (one.at_s[-1] - one.at_s[0]) / max(1, len(one.at_s) - 1)


if __name__ == "__main__":
    main()
