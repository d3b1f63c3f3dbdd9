"""A serving loop of torch alone: LLaMA-like models, a static cache with a row for each request, steps as CUDA graphs.

    python -m scripts.baselines.static_cache llama-3.1-8b --load-format dummy --self-time   # how near the floor its steps are
    python -m scripts.baselines.static_cache llama-3.1-8b --load-format dummy --port 8100   # serves it
    python -m scripts.baselines.static_cache name=folder                                    # with the weights of the folder

It stands for the best that one can write in torch without kernels of one's own, for others to be held against. Waiting prompts go
first, all tokens of a step come to the host one step late, so that the device never waits for it.
"""

import argparse
import functools
import gc
import itertools
import json
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch

from muxjax.model_spec import ModelSpec
from scripts.baselines import attention, options, self_time, weights
from scripts.baselines.engine import Made, Request
from scripts.baselines.slots import Row, Slots
from scripts.baselines.steps import PROMPTS, Steps, Tokens, graph_sizes

TOKEN_BUDGET = 8192
FEW_TOKENS = 1024
"""Of a prefill that takes not much longer with more."""


class _Launched(NamedTuple):
    """A step whose tokens have not been read: who gets one, from which slot, and for whom it is the last."""

    tokens: Tokens
    seats: tuple[tuple[Row, int], ...]
    ending: frozenset[Row]


class StaticCache:
    """An engine (`scripts.baselines.engine`).

    Args:
      token_budget: most tokens of one prefill of several prompts.
      patience: decode steps that prompts of few tokens wait for others, so that the weights are read once for all of them.
    """

    def __init__(self, steps: Steps, *, token_budget: int, patience: int = 0):
        self.steps, self.max_len, self._budget, self._patience, self._waited = steps, steps.max_len, token_budget, patience, 0
        self._slots = Slots(steps.rows)
        self._waiting: deque[Request] = deque()
        self._launched: deque[_Launched] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._launched or self._slots.seats)

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def cancel(self, request: Request) -> None:
        if row := self._slots.row_of(request):
            row.ended = True
            self._slots.release(row)
        elif request in self._waiting:
            self._waiting.remove(request)

    def step(self) -> list[Made]:
        """Launches what is next, and reads all that was launched before it."""
        self._prefill()
        self._decode()
        ahead, made = 1 if self._slots.seats else 0, []
        while len(self._launched) > ahead:
            made += self._read(self._launched.popleft())
        return made

    def close(self) -> None:
        pass

    def warm_up(self, *, report: Callable[[str], object] = print) -> None:
        """Records all steps of this cache; nobody has a row yet."""
        started = time.perf_counter()
        gc.collect()
        gc.freeze()  # recording collects garbage, which is slow among all that a compiler leaves
        for rows in reversed(self.steps.sizes):
            for most in self.steps.contexts:
                self.steps.decode(rows, most)
        sizes = graph_sizes(max(self._budget, self.max_len))
        for size in reversed(sizes):
            prompts = [[0] * min(self.max_len, size - at) for at in range(0, size, self.max_len)][:PROMPTS]
            self.steps.prefill(prompts, [self.steps.rows] * len(prompts))
        count = len(sizes) + len(self.steps.sizes) * len(self.steps.contexts)
        report(f"recorded {count} steps in {time.perf_counter() - started:.1f} s")

    def _prefill(self) -> None:
        count = tokens = 0
        for request in itertools.islice(self._waiting, min(PROMPTS, self._slots.free)):
            if count and tokens + len(request.prompt) > self._budget:
                break
            count, tokens = count + 1, tokens + len(request.prompt)
        if count and tokens < FEW_TOKENS and self._slots.seats and self._waited < self._patience:
            self._waited += 1
            return
        if not count:
            return
        self._waited = 0
        batch = [self._waiting.popleft() for _ in range(count)]
        rows = [self._slots.admit(request) for request in batch]
        self.steps.prefill([request.prompt for request in batch], [row.slot for row in rows])
        seats = tuple((row, row.slot) for row in rows)
        self._launched.append(_Launched(self.steps.tokens(), seats, self._slots.pop_ending()))

    def _decode(self) -> None:
        slots, steps = self._slots, self.steps
        while not self._waiting and (move := slots.closer(steps.sizes)):
            steps.move(*move)
        seats = slots.seats
        if not seats:
            return
        if slots.changed:
            steps.set_plan(slots.plan)
            slots.changed = False
        fits = [
            next(size for size in sizes if size >= least)
            for sizes, least in ((steps.sizes, slots.span), (steps.contexts, slots.most_tokens))
        ]
        steps.decode(fits[0], fits[1])
        slots.advance()
        self._launched.append(_Launched(steps.tokens(), seats, slots.pop_ending()))

    def _read(self, launched: _Launched) -> list[Made]:
        tokens, made = launched.tokens.wait(), []
        for row, slot in launched.seats:
            if row.ended:
                continue
            token = tokens[slot]
            row.ended = row in launched.ending or token in row.request.stop
            if row.ended:
                self._slots.release(row)
            made.append(Made(row.request, token, row.ended))
        return made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this engine alone."""
    parser.add_argument("--attention", choices=("auto", *attention.WAYS), default="auto", help="auto: which is the fastest, by a trial")
    parser.add_argument("--compile", choices=("auto", "default", "max-autotune-no-cudagraphs", "none"), default="auto")
    parser.add_argument("--patience", type=int, default=0, help="decode steps that short prompts wait for more to be prefilled with")


def build(args: argparse.Namespace, *, report: Callable[[str], object] = print) -> StaticCache:
    """The engine that options ask for, its weights loaded; `warm_up` has still to be called.

    Raises:
      ValueError: the model is not for this engine, or not a row fits.
    """
    started = time.perf_counter()
    model = options.model(args)
    spec, device = model.spec, options.device()
    if any(window is not None and window < spec.max_len for window in spec.windows):
        raise ValueError(f"windows of {min(w for w in spec.windows if w)} tokens are not served: set --max-model-len to that at most")
    compiled, how = compiler(args.compile, device)
    loaded = weights.load(model.folder, spec, device, load_format=args.load_format)
    report(f"loaded {model.name} in {time.perf_counter() - started:.1f} s")
    with torch.no_grad():
        name, spent = attention.fastest(spec, device, compiled) if args.attention == "auto" else (args.attention, {})
    rows = fitting_rows(args, spec, device)
    steps = Steps(spec, loaded, attention.WAYS[name], rows=rows, max_len=spec.max_len, compiled=compiled)
    told = {
        "engine": "static_cache",
        "torch": torch.__version__,
        "device": options.device_name(device),
        "model": model.name,
        "attention": name,
        "attention_trial_s": spent,
        "compile": how,
        "rows": rows,
        "max_len": spec.max_len,
        "cache_tokens": rows * spec.max_len,
        "weights_bytes": loaded.read_bytes + (0 if spec.tied else loaded.embed.nbytes),
    }
    report(json.dumps(told))
    return StaticCache(steps, token_budget=_budget(args), patience=args.patience)


def compiler(choice: str, device: torch.device) -> tuple[Callable[[Callable], Callable], str]:
    """What makes functions fast, and its name. "auto" compiles on a GPU, if that works there: it needs a C compiler, and headers."""
    if choice == "auto":
        choice = "default" if device.type == "cuda" and _compiles(device) else "none"
    if choice == "none":
        return lambda function: function, choice
    return functools.partial(torch.compile, mode=choice), choice


def _compiles(device: torch.device) -> bool:
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # of whatever kind: it tells what is missing
        options.say(f"torch.compile does not work here: {error}")
        return False
    return True


def fitting_rows(args: argparse.Namespace, spec: ModelSpec, device: torch.device) -> int:
    """Rows of the cache: those of its size, or else as many as the share of memory has room for, beside the weights that are there and
    what steps need.

    Raises:
      ValueError: there is room for none.
    """
    element_bytes = getattr(torch, spec.dtype).itemsize
    row_bytes = options.token_bytes(spec) * spec.max_len
    if args.kv_cache_size is not None:
        if args.kv_cache_size < row_bytes:
            raise ValueError(f"a cache of {args.kv_cache_size} bytes is no room for a row of {row_bytes} bytes: ask for shorter rows")
        return min(args.max_num_seqs, args.kv_cache_size // row_bytes)
    if device.type != "cuda":
        return args.max_num_seqs
    widest = 4 * spec.width + 2 * (spec.heads + 2 * spec.kv_heads) * spec.head_dim + 4 * spec.ffn
    step_bytes = max(_budget(args), spec.max_len) * widest * element_bytes + args.max_num_seqs * spec.vocab * 4
    share = int(args.gpu_memory_utilization * torch.cuda.get_device_properties(device).total_memory)
    room = share - torch.cuda.memory_allocated(device) - step_bytes - 2**30  # the context, graphs and the compiler's own
    if room < 2 * row_bytes:
        raise ValueError(f"{share} bytes are no room for weights, steps and a row of {row_bytes} bytes: ask for more, or for shorter rows")
    return min(args.max_num_seqs, room // row_bytes - 1)


def _budget(args: argparse.Namespace) -> int:
    return args.max_num_batched_tokens or TOKEN_BUDGET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_arguments(parser)
    add_arguments(parser)
    parser.add_argument("--self-time", action="store_true", help="tells what steps take, as JSON lines, and serves nothing")
    args = parser.parse_args()
    engine = build(args, report=options.say)
    if args.self_time:
        self_time.tell(engine.steps, report=options.say)
        return
    engine.warm_up(report=options.say)
    options.serve(engine, args)


if __name__ == "__main__":
    main()
