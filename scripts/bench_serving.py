"""Does the server, over HTTP, make tokens at the speed of its steps, and is a second start quick?

    python -m scripts.bench_serving                      # on a GPU; minutes, where the first start has programs to compile
    python -m scripts.bench_serving --tiny               # anywhere, in a minute: whether it runs, no more
    python -m scripts.bench_serving --page               # only rewrites the README from the lines there are

`muxjax serve` with random weights of a published shape, started twice, each time in a fresh process; the second is asked.
With the default numbers its programs are those of scripts/bench_step. Writes docs/results/serving-speed/.
"""

import argparse
import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from muxjax.bench import at_once
from muxjax.specs import published
from muxjax.specs.dummy import write_dummy_models
from muxjax.units import show_s
from scripts import results
from scripts.serving import TINY
from scripts.speed_page import STEP_QUESTION

QUESTION = "serving-speed"
START_GOAL_S, AGREEMENT = 30.0, 0.10
TINY_NUMBERS = {
    "model": "tiny",
    "streams": 4,
    "prompt_tokens": 16,
    "output_tokens": 64,
    "max_num_seqs": 8,
    "max_model_len": 128,
    "max_num_batched_tokens": 64,
    "kv_cache_size": 2**24,
}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that is ready.

    Args:
      lines: what it reported.
      ready_s: from the start of its process until it told its address.
    """

    address: str
    lines: tuple[str, ...]
    ready_s: float

    def values(self) -> dict[str, Any]:
        """For a run's record."""
        spent = {f"{what}_s": told_s(self.lines, word) for what, word in (("load", "loaded"), ("compile", "compiled"))}
        return {"ready_s": self.ready_s, **spent, "report": self.lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-8b", choices=sorted(published.BY_NAME))
    for flag, number in {"streams": 32, "prompt-tokens": 256, "output-tokens": 256, "max-num-seqs": 512, "max-model-len": 2048}.items():
        parser.add_argument(f"--{flag}", type=int, default=number)
    parser.add_argument("--max-num-batched-tokens", type=int, default=2048)
    parser.add_argument("--kv-cache-size", default=36507222016)
    parser.add_argument("--compilation-cache-dir", default="~/.cache/muxjax/xla")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and small numbers, written nowhere")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the README")
    args = parser.parse_args()
    if args.tiny:
        vars(args).update(TINY_NUMBERS)
        print(page([run(args)], []))
        return
    if not args.page:
        results.write_runs(QUESTION, args.model, [run(args)])
    text = page(results.read_runs(QUESTION), results.read_runs(STEP_QUESTION))
    results.write_readme(QUESTION, text)
    print(text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Starts the server twice, asks the second; the run's record."""
    load = at_once.StreamLoad(streams=args.streams, prompt_tokens=args.prompt_tokens, output_tokens=args.output_tokens)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "xla") if args.tiny else Path(args.compilation_cache_dir).expanduser()
        paths = write_dummy_models(Path(folder), {args.model: TINY if args.tiny else published.BY_NAME[args.model]})
        command = serve_arguments(args, paths[args.model], cache)
        program_counts = [programs_in(cache)]
        with serving(command) as first:
            program_counts.append(programs_in(cache))
        with serving(command) as second:
            answers = asyncio.run(at_once.run_load(second.address, [args.model], load))[args.model]
        program_counts.append(programs_in(cache))
    if short := [answer.tokens for answer in answers if answer.tokens != args.output_tokens]:
        raise SystemExit(f"streams brought {short} tokens in place of {args.output_tokens}")
    values = {
        "starts": [first.values(), second.values()],
        "kept_programs": program_counts,
        "streams": [answer.values() for answer in answers],
        "token_s": [answer.tpot_s for answer in answers],
        "steady_token_s": at_once.steady_tpot_s(answers),
        "tokens_per_s": at_once.tokens_per_s(answers),
    }
    return results.run_record(device=jax.devices()[0].device_kind, config=vars(args), seed=0, values=values)


def serve_arguments(args: argparse.Namespace, path: Path, cache: Path) -> list[str]:
    """Of `muxjax serve`."""
    names = ("max_num_seqs", "max_model_len", "max_num_batched_tokens", "kv_cache_size")
    flags = {name.replace("_", "-"): getattr(args, name) for name in names}
    flags |= {"compilation-cache-dir": cache, "load-format": "dummy", "port": 0}
    return [f"{args.model}={path}", "--wait-for-all", *(f"--{flag}={value}" for flag, value in flags.items())]


@contextlib.contextmanager
def serving(arguments: Sequence[str]) -> Iterator[Server]:
    """`muxjax serve` in a process of its own, ready; ended when the block is left."""
    started = time.perf_counter()
    command = [sys.executable, "-u", "-m", "muxjax", "serve", *arguments]
    with (
        tempfile.NamedTemporaryFile("w") as log,
        subprocess.Popen(command, cwd=results.ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            for line in process.stdout or ():
                if line.startswith("http://"):
                    ready_s = time.perf_counter() - started
                    lines = Path(log.name).read_text().splitlines()
                    yield Server(address=line.strip(), lines=tuple(lines), ready_s=ready_s)
                    return
            raise SystemExit(f"the server ended before it was ready, with code {process.wait()}: {Path(log.name).read_text()[-2000:]}")
        finally:
            process.terminate()


def told_s(lines: Iterable[str], word: str) -> float:
    """Seconds that a report tells after "`word` in", of all models together."""
    times = re.findall(rf"\b{word} in (\S+) (us|ms|s)\b", "\n".join(lines))
    assert times, f"the report of start-up no longer tells how long what is {word} took"
    return sum(float(number) * _SECONDS[unit] for number, unit in times)


def programs_in(cache: Path) -> int:
    """Compiled programs kept there."""
    return len(list(cache.rglob("*.program")))


def page(runs: Sequence[dict], steps: Iterable[dict]) -> str:
    """The answer for people, from the runs of this question and those of step-speed."""
    steps = list(steps)
    title = "# Does the server, over HTTP, make tokens at the speed of its steps, and is a second start quick?"
    text = """`muxjax serve` with random weights of a published shape, started twice, each time in a fresh process; the second is asked by
another process, greedily. Command: `python -m scripts.bench_serving`; the step in the loop is of
`python -m scripts.bench_step --only idle`."""
    return "\n\n".join([title, text, *(section(run, steps) for run in runs)])


def section(run: dict, steps: Sequence[dict]) -> str:
    """Of one model."""
    config, values = run["config"], run["values"]
    return f"""## {config["model"]}

{config["streams"]} streams of {config["prompt_tokens"]} tokens in and {config["output_tokens"]} out, on {run["device"]},
JAX {run["versions"]["jax"]}, commit {run["commit"]}.

{start_text(values)}

{speed_text(config, values, step_row(config, steps))}

The second start's own report:

```
{chr(10).join(values["starts"][1]["report"])}
```"""


def start_text(values: dict) -> str:
    """Both starts, and whether the second was quick."""
    program_counts, starts = values["kept_programs"], values["starts"]
    beside = [start["ready_s"] - start["load_s"] for start in starts]
    rows = [
        (name, *map(show_s, (start["ready_s"], start["load_s"], beside_s, start["compile_s"])), after - before)
        for name, start, beside_s, before, after in zip(
            ("first", "second"), starts, beside, program_counts, program_counts[1:], strict=False
        )
    ]
    head = ("start", "process to ready", "loading weights", "all beside it", "of it programs", "programs new in the cache")
    verdict = "met" if beside[1] <= START_GOAL_S else "missed"
    return f"""**The second start took {show_s(beside[1])} beside loading the weights: the goal of {START_GOAL_S:g} s is {verdict}.**

{results.table(head, rows)}

Programs are compiled, or read where the cache has them; it held {program_counts[0]} before the first start."""


def step_row(config: dict, steps: Sequence[dict]) -> dict | None:
    """Of the step in the loop with as many rows, and the commit that measured it; None if nobody did."""
    for run in steps:
        if run["config"]["section"] == "idle" and run["config"]["model"] == config["model"]:
            for row in run["values"]["rows"]:
                if row["what"].startswith(f"idle {config['streams']} x "):
                    return row | {"commit": run["commit"]}
    return None


def speed_text(config: dict, values: dict, step: dict | None) -> str:
    """Time per output token over HTTP, beside the step's if there is one."""
    contexts = f"{config['prompt_tokens']} to {config['prompt_tokens'] + config['output_tokens']}"
    median_s = statistics.median(values["token_s"])
    over_http = {
        "a stream over HTTP, median": median_s,
        "a stream over HTTP, worst": max(values["token_s"]),
        "over HTTP, while all streams decode": values["steady_token_s"],
    }
    rows = [(what, contexts, show_s(took_s), _times(took_s, step)) for what, took_s in over_http.items()]
    if step:
        rows.append((f"a step in the loop, commit {step['commit']}", f"mean {step['what'].split()[-1]}", show_s(step["measured_s"]), "1"))
    table = results.table(("what", "context", "time per output token", "of the step's"), rows)
    return f"""**{_verdict(median_s, values["steady_token_s"], step)}** All streams together: {values["tokens_per_s"]:,.0f} output tokens/s,
from the first request to the last token.

{table}

A stream's time is from its first token to its last, over the tokens between; what other streams' prompts take meanwhile is in it.
"While all streams decode" is from the latest first token to the soonest last one, as the step in the loop is measured."""


def _times(took_s: float, step: dict | None) -> str:
    return f"{took_s / step['measured_s']:.3f}" if step else ""


def _verdict(median_s: float, steady_s: float, step: dict | None) -> str:
    if not step:
        return "No step in the loop with as many rows has been measured to hold this against."
    agreed = ["yes" if abs(took_s / step["measured_s"] - 1) <= AGREEMENT else "no" for took_s in (median_s, steady_s)]
    return f"Within {AGREEMENT:.0%} of a step in the loop: the median stream {agreed[0]}, while all streams decode {agreed[1]}."


if __name__ == "__main__":
    main()
