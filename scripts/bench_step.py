"""How near the hardware's floor are whole steps, and does the device ever wait for the host?

    python -m scripts.bench_step                                 # on a GPU; minutes for each section, most of them compiling
    python -m scripts.bench_step --only vllm offline             # the points that vLLM was measured at
    python -m scripts.bench_step --tiny                          # anywhere, in a minute: whether it runs, no more
    python -m scripts.bench_step --page                          # only rewrites the README from the lines there are

Random weights of a published shape, the programs and the loop that serve. Every figure stands against rates measured in the same run.
Writes docs/results/step-speed/.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muxjax import shapes
from muxjax.engine import programs
from muxjax.models import decoder, weights
from muxjax.models.attention import DenseMemory
from muxjax.placement.cost import H200, MeshSpec, decode_work, mean_context, prefill_work
from muxjax.types import ModelSpec, Phase
from muxjax.workload.lengths import lognormal
from scripts import results
from scripts.ceilings import Ceilings, measure
from scripts.serving import Serving
from scripts.speed_page import STEP_QUESTION as QUESTION
from scripts.speed_page import step_page as page

SECTIONS = ("decode", "vllm", "prefill", "check", "idle", "colocated", "offline")
POINTS = ((1, 1024), (32, 1024), (128, 512))
VLLM_POINTS = tuple((rows, 576) for rows in (1, 8, 32, 64, 128, 256))
"""Batch and context; the measurements this stands beside decode from 512 to 640."""
DECODE_ROWS = (8, 32, 64, 128, 256)
"""Shapes of those points, as a server's buckets would be: a single row is padded."""
PREFILL_TOKENS, PREFILL_ROWS = 2048, 8
OTHERS = ("llama-3.2-3b", "llama-3.2-1b")
TINY = ModelSpec(
    vocab=256, width=64, layers=2, heads=4, kv_heads=2, head_dim=32, ffn=96, max_len=4096, windows=(None, None), dtype="float32"
)


class Bench:
    """One run over one model."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.tiny = args, args.tiny
        self.specs = {name: TINY if args.tiny else shapes.BY_NAME[name] for name in (args.model, *OTHERS)}
        self.spec, self.mesh = self.specs[args.model], MeshSpec(chip=H200)
        self.ceilings: Ceilings = measure(tiny=args.tiny)
        self.params = {args.model: weights.dummy(self.spec)}

    def serving(self, names: Sequence[str], slots: int, max_tokens: int, arena_tokens: int | None = None, **buckets: Any) -> Serving:
        """See `Serving`; the arena holds max_tokens for each slot unless told otherwise."""
        for i, name in enumerate(names):
            if name not in self.params:
                self.params[name] = weights.dummy(self.specs[name], seed=i)
        models = {name: (self.specs[name], self.params[name]) for name in names}
        return Serving(models, slots=slots, max_tokens=max_tokens, arena_tokens=arena_tokens or max_tokens, buckets=buckets)

    def decode(self) -> list[dict]:
        return [self._decode(rows, context) for rows, context in ([(4, 64), (1, 128)] if self.tiny else POINTS)]

    def vllm(self) -> list[dict]:
        """Decode at vLLM's points."""
        return [self._decode(rows, context) for rows, context in ([(4, 64)] if self.tiny else VLLM_POINTS)]

    @cached_property
    def _decoding(self) -> Serving:
        """Serves all the points, so that each shape is compiled once."""
        ladder = (4,) if self.tiny else DECODE_ROWS
        most = max(context for _, context in POINTS)
        return self.serving([self.args.model], ladder[-1], most, decode_rows=ladder, prefill_tokens=(), prefill_rows=1)

    def _decode(self, rows: int, context: int) -> dict:
        serving = self._decoding
        step_s = serving.step_s(Phase.DECODE, np.full(rows, context - 1), np.ones(rows))
        floor_s = self._floor_s(decode_work(self.spec, self.mesh, rows, rows * context))
        values = {"what": f"decode {rows} x {context}", "measured_s": step_s, "floor_s": floor_s, "ratio": step_s / floor_s}
        return values | serving.compiled

    def prefill(self) -> list[dict]:
        self.__dict__.pop("_decoding", None)  # its arena would leave no room
        tokens = 64 if self.tiny else PREFILL_TOKENS
        serving = self.serving([self.args.model], PREFILL_ROWS, tokens, decode_rows=(), prefill_tokens=(tokens,), prefill_rows=PREFILL_ROWS)
        step_s = serving.step_s(Phase.PREFILL, np.zeros(1), np.array([tokens]))
        work = prefill_work(self.spec, self.mesh, tokens, mean_context(np.array([0]), np.array([tokens])))
        share = work.flops / step_s / self.ceilings.flops_per_s
        values = {"what": f"prefill {tokens}", "measured_s": step_s, "floor_s": self._floor_s(work), "ratio": share}
        return [values | serving.compiled]

    def idle(self) -> list[dict]:
        rows, steps, prompt = (4, 20, 16) if self.tiny else (32, 200, 256)
        serving = self._steady([self.args.model], rows, prompt + 2 * steps)
        wall_s, context = serving.steady_s(rows=rows, prompt_tokens=prompt, steps=steps)
        device_s = serving.step_s(Phase.DECODE, np.full(rows, context), np.ones(rows), fresh=False)
        values = {"what": f"idle {rows} x {context}", "measured_s": wall_s, "floor_s": device_s, "ratio": 1 - device_s / wall_s}
        return [values | serving.compiled]

    def colocated(self) -> list[dict]:
        rows, steps, prompt = (4, 20, 16) if self.tiny else (32, 200, 256)
        times = {}
        for names in ([self.args.model], [self.args.model, *OTHERS]):
            serving = self._steady(names, rows, prompt + 2 * steps)
            times[len(names)], context = serving.steady_s(rows=rows, prompt_tokens=prompt, steps=steps)
            del serving
        return [{"what": f"one of three {rows} x {context}", "measured_s": times[3], "floor_s": times[1], "ratio": times[1] / times[3]}]

    def _steady(self, names: Sequence[str], rows: int, max_tokens: int) -> Serving:
        buckets = {"decode_rows": (rows,), "mixed_rows": (rows,), "prefill_tokens": (512,), "prefill_rows": PREFILL_ROWS}
        return self.serving(names, rows, max_tokens, **buckets)

    def offline(self) -> list[dict]:
        count, slots, budget, ladder = (12, 4, 64, (4,)) if self.tiny else (512, 256, 2048, (64, 128, 256))
        most = 64 if self.tiny else 1024
        rng = np.random.default_rng(0)
        prompts, outputs = (lognormal(count, mean, sigma=1.0, least=4, most=most, rng=rng) for mean in (220, 200))
        buckets = {"decode_rows": ladder, "mixed_rows": ladder[-1:], "prefill_tokens": (budget // 4, budget), "prefill_rows": PREFILL_ROWS}
        serving = self.serving([self.args.model], slots, 2 * most, arena_tokens=most, **buckets)
        tokens, wall_s = serving.offline(prompts.tolist(), outputs.tolist())
        work = [decode_work(self.spec, self.mesh, slots, int(slots * (prompts.mean() + outputs.mean() / 2)))]
        values = {"what": f"offline {count} requests", "tokens": tokens, "measured_s": wall_s, "tokens_per_s": tokens / wall_s}
        return [values | {"floor_s": self._floor_s(work[0]) * tokens / slots, "ratio": None} | serving.compiled]

    def check(self) -> list[dict]:
        """Greedy tokens of the paged steps, held against float32 logits of the dense forward over the same tokens."""
        rows, prompt, steps = 4, 40, 24
        serving = self._steady([self.args.model], rows, prompt + steps + 1)
        texts = serving.greedy(rows=rows, prompt_tokens=prompt, output_tokens=steps)
        serving.free()
        regret, equal = _regret(self.spec, self.params[self.args.model], texts, prompt)
        return [{"what": f"check {rows} x {steps} tokens", "regret": regret, "equal": equal, "ratio": regret}]

    def _floor_s(self, work) -> float:
        return work.floor_s(flops_per_s=self.ceilings.flops_per_s, bytes_per_s=self.ceilings.bytes_per_s)


def _regret(spec: ModelSpec, params: decoder.Params, texts: list[list[int]], prompt: int) -> tuple[float, float]:
    """How far the chosen tokens' float32 logits lie under the best ones: the most, in standard deviations of their row (an unrelated
    token lies about 4 under), and the share of tokens that are the best."""
    wide = replace(spec, dtype="float32")
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    @jax.jit
    def logits(params, tokens_T):
        hidden_TM, _ = decoder.forward(wide, params, tokens_T, jnp.arange(len(tokens_T)), DenseMemory(windows=spec.windows))
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
    parser.add_argument("--model", default="llama-3.1-8b", choices=sorted(shapes.BY_NAME))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=["decode", "prefill", "check", "idle"])
    parser.add_argument("--tiny", action="store_true", help="a tiny model and small numbers, written nowhere")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the README")
    parser.add_argument("--compilation-cache-dir", default="~/.cache/muxjax/xla")
    args = parser.parse_args()
    if not args.page:
        run(args)
    if not args.tiny:
        results.write_readme(QUESTION, page(results.read_runs(QUESTION)))
        print(page(results.read_runs(QUESTION)))


def run(args: argparse.Namespace) -> None:
    """Measures section by section; each is written as soon as it is there."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    programs.keep_in("" if args.tiny else args.compilation_cache_dir)
    bench, device = Bench(args), jax.devices()[0].device_kind
    print(f"{device}: {bench.ceilings}", flush=True)
    for section in args.only:
        found = getattr(bench, section)()
        config = {"section": section, "model": args.model}
        values = {"flops_per_s": bench.ceilings.flops_per_s, "bytes_per_s": bench.ceilings.bytes_per_s, "rows": found}
        for row in found:
            print(f"{args.model}: {row}", flush=True)
        if not args.tiny:
            results.write_runs(QUESTION, f"{section}-{args.model}", [results.run_record(device=device, config=config, seed=0, values=values)])


if __name__ == "__main__":
    main()
