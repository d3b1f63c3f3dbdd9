"""A question's runs: every backend, scale and seed, each measured once; what was measured is kept where it was begun."""

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from muxjax.bench.records import Run
from muxjax.bench.report import values
from muxjax.bench.summary import summary
from muxjax.commands.bench.compare import Came, compared
from muxjax.commands.bench.options import BenchOptions, CompareOptions, LoadOptions
from muxjax.engine.options import UnitOptions
from muxjax.server.config import named_options
from muxjax.specs import published
from muxjax.specs.dummy import write_dummy_models
from muxjax.workload import files
from muxjax.workload.metrics import Served
from muxjax.workload.trace import Arrival, generate
from scripts import results
from scripts.experiments.question import Question

CURVE = (1, 5, 10, 25, 50, 75, 90, 95, 99)
"""Percentiles that are kept of each model's times."""
LONGEST_S = 1e5
"""In which a question's requests of one moment would have come at its rates."""
MEMORY = re.compile(r"(?:holds \d+ tokens, the whole cache|cache: |memory: ).*")
"""Lines by which a server of muxjax tells where its memory went."""


def measured(question: Question, work: Path, device: str) -> Iterator[dict[str, Any]]:
    """A record for each run, after all backends have been asked.

    Args:
      work: folder of the question, where records of requests lie: what is there already is not measured again.
    """
    load = LoadOptions(trace=work / "trace-{seed}.jsonl", ignore_eos=True, prompt_ids_below=90)
    for seed in question.seeds:
        trace = load.trace_of(seed)
        assert trace is not None
        files.write(trace, arrivals(question, seed))
    came = compared(
        unit_of(question, work),
        load,
        BenchOptions(seeds=question.seeds, warmup=2, records=work / "records.jsonl", timeout_s=300.0, clients=_clients()),
        question.targets,
        CompareOptions(backends=question.backends, rate_scales=question.scales, enough=question.enough, logs=work / "logs"),
    )
    for one in came:
        if one.trouble:  # of which a page says nothing where there is no run
            print(f"{one.backend.name}: {one.trouble}", file=sys.stderr)
        for run in one.runs:
            yield record(question, one, run, device, list(memory(work / "logs", one)))


def _clients() -> int:
    """Processes that send, where there are processors for them beside those of the servers."""
    return max(1, min(4, (os.cpu_count() or 1) // 4))


def arrivals(question: Question, seed: int) -> Sequence[Arrival]:
    """The requests of a seed."""
    if question.at_once is None:
        return generate(question.streams, question.duration_s, seed)
    enough_s = min(LONGEST_S, 4 * question.at_once / question.rate_rps)
    return [one._replace(time_s=0.0) for one in islice(generate(question.streams, enough_s, seed), question.at_once)]


def unit_of(question: Question, work: Path) -> UnitOptions:
    """The models with their folders, which are made where the weights are random."""
    paths = {name: Path(shape) for name, shape in question.models.items()}
    if question.dummy:
        folder = work / "models"
        missing = {name: published.BY_NAME[shape] for name, shape in question.models.items() if not (folder / name).exists()}
        folder.mkdir(parents=True, exist_ok=True)
        write_dummy_models(folder, missing)
        paths = {name: folder / name for name in question.models}
    options = {
        "load_format": "dummy" if question.dummy else "auto",
        "dtype": question.dtype,
        "kv_cache_size": question.cache,
        "max_model_len": question.max_model_len,
        "max_num_seqs": question.max_num_seqs,
    }
    return named_options(paths, options)


def record(question: Question, came: Came, run: Run, device: str, memory: Sequence[str]) -> dict[str, Any]:
    """One run, for a line of docs/results."""
    told = {
        "backend": came.backend.name,
        "about": came.backend.about,
        "scale": run.begin.scale,
        "models": dict(question.models),
        "cache": question.cache,
        "dtype": question.dtype,
        "max_num_seqs": question.max_num_seqs,
        "duration_s": question.duration_s,
        "at_once": question.at_once,
        "targets": asdict(question.targets),
    }
    found = values(summary([run], question.targets), [run])
    served = [one for record in run.records if (one := record.served)]
    found |= {"curves": curves(served), "rates": run.begin.rates, "trouble": came.trouble, "memory": list(memory)}
    if not math.isnan(came.start_s):
        found["start_s"] = came.start_s
    if came.used_bytes:
        found["used_bytes"] = came.used_bytes
    return results.run_record(device=device, config=told, seed=run.begin.seed, values=found)


def curves(served: Sequence[Served]) -> dict[str, dict[str, list[float]]]:
    """Seconds at each of CURVE, of each model's times to the first token and per further token."""
    found = {}
    for model in sorted({one.model for one in served}):
        own = [one for one in served if one.model == model]
        times = {"ttft_s": [one.ttft_s for one in own], "tpot_s": [one.tpot_s for one in own if one.output_tokens > 1]}
        found[model] = {name: np.percentile(seconds, CURVE).round(6).tolist() if seconds else [] for name, seconds in times.items()}
    return found


def memory(logs: Path, came: Came) -> Iterator[str]:
    """What its servers told of their memory."""
    for log in sorted(logs.glob(f"{came.backend.name}-*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if MEMORY.search(line):
                yield line.strip()[-300:]
