"""The pages of step and kernel speeds: goals, other engines' figures, and tables made of the runs."""

from collections.abc import Iterable
from typing import Any

from muxjax.units import show_s
from scripts import results

STEP_QUESTION = "step-speed"
STEP_GOALS = {
    ("llama-3.1-8b", "decode 1 x 1024"): ("at most", 1.18),
    ("llama-3.1-8b", "decode 32 x 1024"): ("at most", 1.22),
    ("llama-3.1-8b", "decode 128 x 512"): ("at most", 1.35),
    ("llama-3.1-8b", "prefill 2048"): ("at least", 0.72),
    ("llama-3.1-8b", "idle"): ("at most", 0.03),
    ("llama-3.2-1b", "idle"): ("at most", 0.10),
    ("llama-3.1-8b", "one of three"): ("at least", 0.98),
}
VLLM_MS = {1: 4.89, 8: 5.01, 32: 5.72, 64: 6.52, 128: 8.34, 256: 13.36}
"""vLLM 0.26.0 on an H200, LLaMA-3.1-8B's shape, bf16: a decode step at context 512 to 640, by batch."""
VLLM_PREFILL_MS, VLLM_TOKENS_PER_S = 51.0, 9720.0
"""The same: prefill of 2,048 tokens; output tokens a second of the offline run."""

IN = " in "
"""Between a model's name and what holds its matrices."""
QUANTIZED_GOALS = {"decode 1 x 576": 0.62, "decode 32 x 576": 0.70, "prefill 2048": 0.65}
"""Most times of a step in bf16."""

KERNEL_QUESTION = "kernel-speed"
KERNEL_GOALS = {
    ("decode", "64 x 2048"): 0.88,
    ("decode", "32 x 1024"): 0.80,
    ("decode", "128 x 512"): 0.80,
    ("decode", "1 x 8192"): 0.80,
    ("decode", "256 mixed"): 0.80,
    ("prefill", "4096 on 0"): 0.55,
    ("prefill", "4096 on 4096"): 0.55,
}

_STEP_TEXT = """Random weights of the published shapes, in the programs and the loop that serve. The floor of a step is the larger of its
arithmetic over the measured rate of an 8192^3 bf16 product, and its bytes (weights once, KV once) over the measured rate of a copy, both
from the same run. Command: `python -m scripts.bench_step`, with `--model` and `--only` as the table says.

Time and floor of "idle" are of a step in the loop, and of the same step launched back to back; of "one of three", of a step beside two
other resident models, and alone."""

_KERNEL_TEXT = """# How near the hardware's ceilings are the kernels over the head-wise cache, and how right?

bf16, block tables in random order over an arena many times the L2 cache. Decode attention and KV writes as a share of the rate of a copy
within the device, prefill attention of the rate of an 8192^3 product, both measured in the same run. Errors are relative, of the worst row
and head, against the plain `jnp` reference in float32; of a write, the share of elements that differ. Command:
`python -m scripts.bench_kernels`."""


TUNING_QUESTION = "kernel-tuning"
_TUNING_TEXT = """# Which sizes suit the attention kernels?

Every tuning that was tried, the best of each kernel and head size first: its times relative to the fastest of each case, summed. Those in
use stand in `TUNING` of `muxjax/pallas/decode_plan.py` and `prefill.py`. Command:
`python -m scripts.bench_kernels --tune --only decode prefill --head-dims 64 128 256`."""


def step_page(runs: Iterable[dict[str, Any]]) -> str:
    """Of all lines in docs/results/step-speed/."""
    runs = list(runs)
    sections = [_steps(runs), beside_vllm(runs), _quantized(runs), _offline(runs), _checks(runs)]
    return "\n\n".join(
        [
            "# How near the hardware's floor are whole steps, and does the device ever wait for the host?",
            _STEP_TEXT,
            *(section for section in sections if section),
            _machines(runs),
        ]
    )


def verdict(model: str, what: str, ratio: float) -> str:
    """Whether a goal that there is for it was reached."""
    goals = [goal for (name, start), goal in STEP_GOALS.items() if name == model and (what + " ").startswith(start + " ")]
    if not goals:
        return ""
    return _reached(*goals[0], ratio)


def _reached(word: str, limit: float, ratio: float) -> str:
    reached = ratio <= limit if word == "at most" else ratio >= limit
    return f"{'yes' if reached else 'no'}: {word} {limit:g}"


def _rows(runs: Iterable[dict]) -> Iterable[tuple[dict, dict]]:
    return ((run, row) for run in runs for row in run["values"]["rows"])


def _steps(runs: list[dict]) -> str:
    ratios = {
        "decode": "of the floor",
        "vllm": "of the floor",
        "prefill": "of the matmul rate",
        "idle": "of the time idle",
        "colocated": "of its speed alone",
    }
    lines = [
        (
            run["config"]["model"],
            row["what"],
            show_s(row["measured_s"]),
            show_s(row["floor_s"]),
            f"{row['ratio']:.3g} {ratios[section]}",
            verdict(run["config"]["model"], row["what"], row["ratio"]),
        )
        for run, row in _rows(runs)
        if (section := run["config"]["section"]) in ratios
    ]
    head = ("model", "what", "time", "floor", "ratio", "goal reached")
    return results.table(head, lines) if lines else ""


def beside_vllm(runs: Iterable[dict]) -> str:
    """The table of the project's README too."""
    lines = [line for run, row in _rows(runs) if run["config"]["model"] == "llama-3.1-8b" for line in _vllm_line(row)]
    lines.sort(key=lambda line: (line[0].split()[0], int(line[0].split()[1])))
    text = "LLaMA-3.1-8B beside vLLM 0.26.0 (torch.compile, CUDA graphs, FlashAttention 3) on the same kind of chip:\n\n"
    return text + results.table(("what", "muxjax", "vLLM", "times as fast"), lines) if lines else ""


def _vllm_line(row: dict) -> Iterable[tuple[str, ...]]:
    what, measured_s = row["what"], row.get("measured_s", 0.0)
    if what.startswith("decode ") and what.endswith(" x 576"):
        vllm_ms = VLLM_MS[int(what.split()[1])]
        yield what, f"{measured_s * 1e3:.2f} ms", f"{vllm_ms:.2f} ms", f"{vllm_ms / measured_s / 1e3:.2f}"
    elif what == "prefill 2048":
        yield what, f"{measured_s * 1e3:.1f} ms", f"{VLLM_PREFILL_MS:.1f} ms", f"{VLLM_PREFILL_MS / measured_s / 1e3:.2f}"
    elif what.startswith("offline 512 requests"):
        rate = row["tokens_per_s"]
        yield what, f"{rate:,.0f} tokens/s", f"{VLLM_TOKENS_PER_S:,.0f} tokens/s", f"{rate / VLLM_TOKENS_PER_S:.2f}"


def _quantized(runs: list[dict]) -> str:
    """Steps of models whose matrices are held in fewer bits, beside those in bf16."""
    plain_s = {(run["config"]["model"], row["what"]): row["measured_s"] for run, row in _rows(runs) if "measured_s" in row}
    lines = []
    for (label, what), measured_s in plain_s.items():
        model, _, held = label.partition(IN)
        if held and (model, what) in plain_s:
            ratio, goal = measured_s / plain_s[model, what], QUANTIZED_GOALS.get(what)
            reached = "" if goal is None else _reached("at most", goal, ratio)
            lines.append((model, held, what, show_s(measured_s), show_s(plain_s[model, what]), f"{ratio:.3f}", reached))
    return results.table(("model", "held in", "what", "time", "in bf16", "times", "goal reached"), lines) if lines else ""


def _checks(runs: list[dict]) -> str:
    lines = [
        f"- {run['config']['model']}, {row['what']}: {row['equal']:.1%} are the best of the float32 dense forward, and none lies more than "
        f"{row['regret']:.2g} standard deviations of its row under the best (an unrelated one: about 4)."
        for run, row in _rows(runs)
        if run["config"]["section"] == "check"
    ]
    return "Greedy tokens of the paged steps:\n\n" + "\n".join(lines) if lines else ""


def _offline(runs: Iterable[dict]) -> str:
    lines = [
        f"- {run['config']['model']}, {row['what']}: {row['tokens']:,} tokens took {row['decode_steps']:,} decode steps, "
        f"{row['mixed_steps']:,} with chunks too, and {row['prefill_steps']:,} of chunks alone, for {row['prefill_tokens']:,} tokens "
        "of prompts."
        for run, row in _rows(runs)
        if "mixed_steps" in row
    ]
    return "\n".join(lines)


def _machines(runs: list[dict]) -> str:
    lines = {
        f"- {run['device']}, JAX {run['versions']['jax']}, commit {run['commit']}: {run['values']['flops_per_s'] / 1e12:.4g} TFLOP/s, "
        f"{run['values']['bytes_per_s'] / 1e12:.3g} TB/s"
        for run in runs
    }
    return "Measured on:\n\n" + "\n".join(sorted(lines))


def kernel_page(runs: Iterable[dict[str, Any]]) -> str:
    """Of all lines in docs/results/kernel-speed/."""
    runs = list(runs)
    lines = [_kernel_line(row) for _, row in _rows(runs)]
    head = ("kernel", "implementation", "case", "D", "G", "K", "tuning", "time", "share of the ceiling", "worst error", "goal reached")
    machines = [_machines(runs)] if runs and "device" in runs[0] else []
    return "\n\n".join([_KERNEL_TEXT, results.table(head, lines), *machines])


def tuning_page(runs: Iterable[dict[str, Any]]) -> str:
    """Of all lines in docs/results/kernel-tuning/."""
    runs = list(runs)
    head = ("kernel", "D", "tuning", *(f"case {i}" for i in range(1, 7)), "sum of times over the best")
    lines = []
    for kernel, head_dim, tried in best_tunings(runs):
        least = tried[0][0]
        for total, tuning, rows in tried:
            cells = [f"{row['case']}: {show_s(row['call_s'])}" for row in rows]
            cells += [""] * (6 - len(cells))
            lines.append((kernel, str(head_dim), _shown(tuning), *cells, f"{total / least:.3f}"))
    return "\n\n".join([_TUNING_TEXT, results.table(head, lines), _machines(runs)])


def best_tunings(runs: Iterable[dict[str, Any]]) -> Iterable[tuple[str, int, list[tuple[float, dict, list[dict]]]]]:
    """Of each kernel and head size the tunings tried, best first: its relative time summed over the cases, itself, its rows."""
    for run in runs:
        rows = run["values"]["rows"]
        least: dict[str, float] = {}
        for row in rows:
            least[row["case"]] = min(row["call_s"], least.get(row["case"], row["call_s"]))
        tried = []
        for shown in dict.fromkeys(_shown(row["tuning"]) for row in rows):
            own = [row for row in rows if _shown(row["tuning"]) == shown]
            if len(own) == len(least):
                tried.append((sum(row["call_s"] / least[row["case"]] for row in own), own[0]["tuning"], own))
        yield rows[0]["kernel"], rows[0]["head_dim"], sorted(tried, key=lambda each: each[0])


def _shown(tuning: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (tuning or {}).items())


def _kernel_line(row: dict[str, Any]) -> tuple[str, ...]:
    goal = KERNEL_GOALS.get((row["kernel"], row["case"])) if row["head_dim"] == 128 else None
    reached = "" if goal is None else f"{'yes' if row['share'] >= goal else 'no'}: at least {goal:g}"
    sizes = (str(row[name]) for name in ("head_dim", "group", "kv_heads"))
    return (
        row["kernel"],
        row["implementation"],
        row["case"],
        *sizes,
        _shown(row["tuning"]),
        show_s(row["call_s"]),
        f"{row['share']:.3f}",
        f"{row['error']:.1e}",
        reached,
    )
