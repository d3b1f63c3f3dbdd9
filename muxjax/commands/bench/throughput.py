"""`muxjax bench throughput`: a load on models of this process, all at once and without HTTP."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.commands.bench.loads import asked, require_known
from muxjax.commands.bench.options import LoadOptions
from muxjax.commands.bench.serve import REPORT
from muxjax.engine.options import UnitOptions
from muxjax.progress import followed
from muxjax.server.build import build_service
from muxjax.server.llms import Completion, LLMs
from muxjax.units import show_table
from muxjax.whole_file import require_writable, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the models made of a load."""

    seconds: float
    answers: Sequence[Completion]

    def values(self, model: str | None = None) -> dict[str, Any]:
        """Under vLLM's keys, of one model or of all."""
        own = [answer for answer in self.answers if model in (None, answer.model)]
        prompts, outputs = sum(answer.prompt_tokens for answer in own), sum(len(answer.tokens) for answer in own)
        return {
            "num_requests": len(own),
            "total_prompt_tokens": prompts,
            "total_output_tokens": outputs,
            "total_num_tokens": prompts + outputs,
            "requests_per_second": len(own) / self.seconds,
            "tokens_per_second": (prompts + outputs) / self.seconds,
            "output_tokens_per_second": outputs / self.seconds,
        }


def run(unit: UnitOptions, load: LoadOptions, seed: int, output: Path | None) -> int:
    """Prints requests and tokens a second, of each model and of all, and writes them where they are to go.

    Raises:
      ConfigError: a file, a model, or a value that cannot be.
    """
    if output is not None:
        require_writable(output, field="json", begins=[REPORT])
    names = [model.name for model in unit.models]
    requests = list(_requests(load, names, seed))
    require_known((model for model, _, _ in requests), names)
    with LLMs.over(build_service(unit, report=_to_stderr)) as llms:
        served = measure(llms, requests)
    print("\n".join(text(served, names)))
    if output is not None:
        found = {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "elapsed_time": served.seconds, **served.values()}
        write_json(output, found | {"models": {name: served.values(name) for name in names}}, field="json")
    return 0


def measure(llms: LLMs, requests: Sequence[tuple[str, Any, dict[str, object]]]) -> Served:
    """All at once, after one of each model has warmed it up."""
    first = {model: (model, prompt, sampling | {"max_tokens": 1}) for model, prompt, sampling in requests}
    llms.answers(first.values())
    with followed("answering", " requests", len(requests)) as done:
        begin_s = time.perf_counter()
        answers = llms.answers(requests, ended=done)
        return Served(seconds=time.perf_counter() - begin_s, answers=answers)


def text(served: Served, names: Sequence[str]) -> list[str]:
    """As vLLM's users know it, and a row for each model."""
    every = served.values()
    rows: list[Sequence[str]] = [("model", "requests", "prompt tokens", "output tokens", "output tokens/s")]
    for name in names:
        own = served.values(name)
        counts = (own[key] for key in ("num_requests", "total_prompt_tokens", "total_output_tokens"))
        rows.append((name, *map(str, counts), f"{own['output_tokens_per_second']:.5g}"))
    return [
        f"Throughput: {every['requests_per_second']:.2f} requests/s, {every['tokens_per_second']:.2f} total tokens/s, "
        f"{every['output_tokens_per_second']:.2f} output tokens/s",
        f"Total num prompt tokens:  {every['total_prompt_tokens']}",
        f"Total num output tokens:  {every['total_output_tokens']}",
        *(show_table(rows) if len(names) > 1 else ()),
    ]


def _requests(load: LoadOptions, names: Sequence[str], seed: int):
    """Model, prompt and sampling of each request of the load."""
    what = asked(load, names, seed)
    for number, arrival in enumerate(what.at(1.0).arrivals):
        body = json.loads(what.body(number, arrival))
        sampling = {key: body[key] for key in ("max_tokens", "temperature", "ignore_eos") if key in body}
        yield arrival.model, body.get("messages") or body["prompt"], sampling


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
