"""How near the hardware's floor are whole steps, and does the device ever wait for the host?

    python -m scripts.bench_step                                 # on a GPU; minutes for each section, most of them compiling
    python -m scripts.bench_step --only vllm offline             # the points that vLLM was measured at
    python -m scripts.bench_step --tensor-parallel-size 2        # one model on two GPUs
    python -m scripts.bench_step --quantization fp8 --only vllm prefill
    python -m scripts.bench_step --tiny                          # anywhere, in a minute: whether it runs, no more
    python -m scripts.bench_step --page                          # only rewrites the READMEs from the lines there are

Random weights of a published shape, the programs and the loop that serve. Every figure stands against rates measured in the same run.
Writes docs/results/step-speed/.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.roofline import decode_work, mean_context, prefill_work
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder, weights
from muxjax.models.attention import DenseMemory
from muxjax.models.sharding import Devices
from muxjax.quantization import QUANTIZATIONS
from muxjax.specs import published
from muxjax.specs.reading.quantization import resident
from muxjax.types import Phase
from muxjax.workload.lengths import draw_log_normal
from scripts import results
from scripts.ceilings import Ceilings, measure
from scripts.serving import TINY, Serving
from scripts.speed_page import IN, beside_vllm
from scripts.speed_page import STEP_QUESTION as QUESTION
from scripts.speed_page import step_page as page

SECTIONS = ("decode", "vllm", "prefill", "idle", "offline", "check", "colocated")
POINTS = ((1, 1024), (32, 1024), (128, 512))
VLLM_POINTS = tuple((rows, 576) for rows in (1, 8, 32, 64, 128, 256))
"""Batch and context; the measurements this stands beside decode from 512 to 640."""
MAX_TOKENS, ARENA_TOKENS, TOKEN_BUDGET = 2048, 2**18, 2048
"""Of all sections, so that each program is compiled once, and those of a server with these numbers are the same."""
OTHERS = ("llama-3.2-3b", "llama-3.2-1b")


class Bench:
    """One run over one model."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.tiny = args, args.tiny
        self.specs = {name: TINY if args.tiny else published.BY_NAME[name] for name in (args.model, *OTHERS)}
        self.spec = replace(self.specs[args.model], quantization=resident(self.specs[args.model], None, args.quantization))
        self.specs[args.model], self.mesh = self.spec, MeshSpec(chip=H200, tp=args.tensor_parallel_size)
        self.devices = Devices.first(args.tensor_parallel_size)
        self.ceilings: Ceilings = measure(tiny=args.tiny)
        self.params = {args.model: weights.dummy(self.spec, self.devices)}

    @property
    def label(self) -> str:
        """Of the model in tables, where goals and other engines' figures are of one device in bf16."""
        held = self.args.model + (IN + self.args.quantization if self.args.quantization else "")
        return held if self.devices.tp == 1 else f"{held} on {self.devices.tp} devices"

    @cached_property
    def serving(self) -> Serving:
        """The model alone."""
        return self._serving([self.args.model])

    def _serving(self, names: Sequence[str]) -> Serving:
        for i, name in enumerate(names):
            if name not in self.params:
                self.params[name] = weights.dummy(self.specs[name], self.devices, seed=i)
        sizes = (8, 128, 1024, 64) if self.tiny else (self.args.slots, MAX_TOKENS, ARENA_TOKENS, TOKEN_BUDGET)
        programs = "" if self.tiny else self.args.compilation_cache_dir
        named = dict(zip(("slots", "max_tokens", "arena_tokens", "token_budget"), sizes, strict=True))
        return Serving(
            {name: (self.specs[name], self.params[name]) for name in names},
            devices=self.devices,
            programs=programs,
            **named,
        )

    def decode(self) -> list[dict]:
        return [self._decode(rows, context) for rows, context in ([(4, 64), (1, 128)] if self.tiny else POINTS)]

    def vllm(self) -> list[dict]:
        """Decode at vLLM's points."""
        return [self._decode(rows, context) for rows, context in ([(4, 64)] if self.tiny else VLLM_POINTS)]

    def _decode(self, rows: int, context: int) -> dict:
        step_s = self.serving.step_s(Phase.DECODE, np.full(rows, context - 1), np.ones(rows, np.int32))
        floor_s = self._floor_s(decode_work(self.spec, self.mesh, rows, rows * context))
        return {"what": f"decode {rows} x {context}", "measured_s": step_s, "floor_s": floor_s, "ratio": step_s / floor_s}

    def prefill(self) -> list[dict]:
        tokens = 64 if self.tiny else TOKEN_BUDGET
        step_s = self.serving.step_s(Phase.PREFILL, np.zeros(1, np.int32), np.array([tokens]))
        work = prefill_work(self.spec, self.mesh, tokens, mean_context(np.array([0]), np.array([tokens])))
        share = work.flops / step_s / self.ceilings.flops_per_s
        return [{"what": f"prefill {tokens}", "measured_s": step_s, "floor_s": self._floor_s(work), "ratio": share}]

    def idle(self) -> list[dict]:
        rows, wall_s, context = self._steady(self.serving)
        device_s = self.serving.step_s(Phase.DECODE, np.full(rows, context), np.ones(rows, np.int32), fresh=False)
        return [{"what": f"idle {rows} x {context}", "measured_s": wall_s, "floor_s": device_s, "ratio": 1 - device_s / wall_s}]

    def colocated(self) -> list[dict]:
        rows, alone_s, context = self._steady(self.serving)
        self.serving.free()
        del self.serving
        _, beside_s, _ = self._steady(self._serving([self.args.model, *OTHERS]))
        return [{"what": f"one of three {rows} x {context}", "measured_s": beside_s, "floor_s": alone_s, "ratio": alone_s / beside_s}]

    def _steady(self, serving: Serving) -> tuple[int, float, int]:
        """Rows, seconds of a step in the loop, mean context."""
        rows, steps, prompt = (4, 20, 16) if self.tiny else (32, 200, 256)
        return rows, *serving.steady_s(rows=rows, prompt_tokens=prompt, steps=steps)

    def offline(self) -> list[dict]:
        """Twice, as "mean 220 in and 200 out, cut to 4..1,024" can mean before the cut, which lowers it, or after."""
        count, most = (12, 64) if self.tiny else (512, 1024)
        name, means = f"offline {count} requests", (20, 20) if self.tiny else (220, 200)
        return [
            self._offline(name, *_lengths(count, most, means)),
            self._offline(f"{name}, means after the cut", *_cut(count, most, means)),
        ]

    def _offline(self, what: str, prompts: np.ndarray, outputs: np.ndarray) -> dict:
        before = self.serving.unit.stats().models[0]
        tokens, wall_s = self.serving.offline(prompts.tolist(), outputs.tolist())
        after, slots = self.serving.unit.stats().models[0], self.serving.slots
        kinds = ("decode_steps", "mixed_steps", "prefill_steps", "prefill_tokens")
        steps = {kind: getattr(after, kind) - getattr(before, kind) for kind in kinds}
        work = decode_work(self.spec, self.mesh, slots, int(slots * (prompts.mean() + outputs.mean() / 2)))
        values = {"what": what, "tokens": tokens, "measured_s": wall_s, "tokens_per_s": tokens / wall_s} | steps
        return values | {"floor_s": self._floor_s(work) * tokens / slots, "ratio": None}

    def check(self) -> list[dict]:
        """Greedy tokens of the paged steps, held against float32 logits of the dense forward over the same tokens."""
        rows, prompt, steps = 4, 40, 24
        texts = self.serving.greedy(rows=rows, prompt_tokens=prompt, output_tokens=steps)
        params = self.params[self.args.model] if self.devices.tp == 1 else weights.dummy(self.spec)  # the same, on one device
        regret, equal = _regret(self.spec, params, texts, prompt)
        return [{"what": f"check {rows} x {steps} tokens", "regret": regret, "equal": equal, "ratio": regret}]

    def _floor_s(self, work) -> float:
        return work.floor_s(flops_per_s=self.ceilings.flops_per_s, bytes_per_s=self.ceilings.bytes_per_s)


def _lengths(count: int, most: int, means: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Tokens of prompts and outputs."""
    rng = np.random.default_rng(0)
    return tuple(draw_log_normal(count, mean, sigma=1.0, least=4, most=most, rng=rng) for mean in means)


def _cut(count: int, most: int, means: Sequence[float]) -> tuple[np.ndarray, ...]:
    """The same draws, stretched until they have those means although they are cut."""
    stretched = list(means)
    for _ in range(30):
        stretched = [
            mean * wanted / each.mean() for mean, wanted, each in zip(stretched, means, _lengths(count, most, stretched), strict=True)
        ]
    return _lengths(count, most, stretched)


def _regret(spec: ModelSpec, params: decoder.Params, texts: list[list[int]], prompt: int) -> tuple[float, float]:
    """How far the chosen tokens' float32 logits lie under the best ones: the most, in standard deviations of their row (an unrelated
    token lies about 4 under), and the share of tokens that are the best."""
    wide = replace(spec, dtype="float32")
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    @jax.jit
    def logits(params, tokens_T):
        hidden_TM, _ = decoder.forward(wide, params, tokens_T, jnp.arange(len(tokens_T)), DenseMemory())
        return decoder.logits(wide, params, hidden_TM)

    worst, equal = 0.0, []
    with jax.default_matmul_precision("highest"):
        for text in texts:
            rows = np.asarray(logits(params, jnp.array(text[:-1])))[prompt - 1 :]
            chosen = rows[np.arange(len(rows)), text[prompt:]]
            worst = max(worst, float(((rows.max(axis=1) - chosen) / rows.std(axis=1)).max()))
            equal += (rows.argmax(axis=1) == text[prompt:]).tolist()
    return worst, float(np.mean(equal))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-8b", choices=sorted(published.BY_NAME))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--slots", type=int, default=512, help="sequences at a time, which tells what is compiled (512)")
    parser.add_argument("--tensor-parallel-size", type=int, default=1, help="devices that share the model out (1)")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="holds the model's matrices so")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and small numbers, written nowhere")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the READMEs")
    parser.add_argument("--compilation-cache-dir", default="~/.cache/muxjax/xla")
    args = parser.parse_args()
    if not args.page:
        run(args)
    if not args.tiny:
        runs = results.read_runs(QUESTION)
        results.write_readme(QUESTION, page(runs))
        results.write_section("speed", beside_vllm(runs))
        print(page(runs))


def run(args: argparse.Namespace) -> None:
    """Measures section by section; each is written as soon as it is there."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    bench, device = Bench(args), jax.devices()[0].device_kind
    print(f"{device}: {bench.ceilings}", flush=True)
    for section in args.only:
        rows = getattr(bench, section)()
        config = {"section": section, "model": bench.label, "slots": args.slots, "tensor_parallel_size": bench.devices.tp}
        if "serving" in bench.__dict__:
            config |= bench.serving.compiled
        values = {"flops_per_s": bench.ceilings.flops_per_s, "bytes_per_s": bench.ceilings.bytes_per_s, "rows": rows}
        for row in rows:
            print(f"{bench.label}: {row}", flush=True)
        if not args.tiny:
            name = f"{section}-{bench.label.replace(' ', '-')}"
            results.write_runs(QUESTION, name, [results.run_record(device=device, config=config, seed=0, values=values)])


if __name__ == "__main__":
    main()
