"""Continuous batching of transformers, behind the server of the static cache.

    python -m scripts.baselines.transformers_batching llama-3.1-8b --load-format dummy --port 8101

Its flash kernels are taken where a package has them; without, `paged|sdpa` masks all rows' tokens for every row, and a line says that it
is a reference and no rival.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from muxjax.model_spec import ModelSpec
from muxjax.specs.dummy import write_dummy_models
from scripts.baselines import options
from scripts.baselines.engine import Made, Request

PAGE = 256
"""Tokens of a page of its cache."""
_WAIT_S = 0.05
"""Most that a step waits for a token before it looks for requests."""


class TransformersBatching:
    """An engine (`scripts.baselines.engine`). The manager has a thread of its own, which makes tokens whether steps are taken or not.

    Args:
      streaming: tokens come as they are made; else all of an answer with its last one, which costs less.
    """

    def __init__(self, manager: ContinuousBatchingManager, *, max_len: int, streaming: bool = True):
        self.max_len, self._manager, self._streaming = max_len, manager, streaming
        self._running: dict[str, tuple[Request, int]] = {}
        self._submitted = 0

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, request: Request) -> None:
        name, self._submitted = f"{self._submitted}", self._submitted + 1
        self._running[name] = (request, 0)
        self._manager.add_request(
            list(request.prompt),
            request_id=name,
            max_new_tokens=request.max_tokens,
            streaming=self._streaming,
            eos_token_id=sorted(request.stop) or -1,
        )

    def cancel(self, request: Request) -> None:
        name = next((name for name, (running, _) in self._running.items() if running is request), None)
        if name is not None:
            del self._running[name]
            self._manager.cancel_request(name)

    def step(self) -> list[Made]:
        """All tokens that have come.

        Raises:
          RuntimeError: the manager has failed.
        """
        made: list[Made] = []
        output = self._manager.get_result(timeout=_WAIT_S)
        while output is not None:
            made += self._new(output)
            output = self._manager.get_result(timeout=0)
        if not made and not self._manager.is_running():
            raise RuntimeError("the manager of transformers has ended")
        return made

    def close(self) -> None:
        self._manager.stop(block=True, timeout=10, hard_stop=True)

    def _new(self, output: Any) -> list[Made]:
        """What an output has that those before it had not: each has the whole answer so far."""
        if output.request_id not in self._running:
            return []
        if output.error is not None:
            raise RuntimeError(f"transformers failed: {output.error}")
        request, seen = self._running[output.request_id]
        tokens, ended = output.generated_tokens[seen:], output.is_finished()
        self._running[output.request_id] = (request, seen + len(tokens))
        if ended:
            del self._running[output.request_id]
        return [Made(request, token, ended and i == len(tokens) - 1) for i, token in enumerate(tokens)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this engine alone."""
    parser.add_argument("--attention", default="auto", help="as transformers spells it; auto: flash_attention_3 or 2 where there, or sdpa")
    parser.add_argument("--compile-level", type=int, choices=(0, 1, 2, 3), default=0, help="default_compile_level of its config")
    parser.add_argument("--cuda-graph", choices=("auto", "on", "off"), default="auto", help="auto: what its config finds best")


def build(args: argparse.Namespace, *, streaming: bool = True, report: Callable[[str], object] = print) -> TransformersBatching:
    """The engine that options ask for, its weights loaded and its thread running."""
    started, device = time.perf_counter(), options.device()
    served = options.model(args)
    name = attention(args.attention)
    dtype = getattr(torch, served.spec.dtype)
    with torch.device(device):
        if args.load_format == "dummy":
            model = AutoModelForCausalLM.from_config(_config(served), dtype=dtype, attn_implementation=name)
        else:
            model = AutoModelForCausalLM.from_pretrained(served.folder, dtype=dtype, attn_implementation=name)
    model.eval()
    report(f"loaded {served.name} in {time.perf_counter() - started:.1f} s")
    with torch.no_grad():
        greedy = GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=served.spec.max_len)
        chosen = config(args, served.spec, device)
        manager = model.init_continuous_batching(generation_config=greedy, continuous_batching_config=chosen)
        if device.type == "cuda":
            manager.warmup()
    manager.start()
    used = str(model.config._attn_implementation)
    told = {
        "engine": "transformers_batching",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "device": options.device_name(device),
        "model": served.name,
        "attention": used,
        "label": "rival" if "flash" in used else "reference",
        "weights_bytes": sum(weight.nbytes for weight in model.parameters()),
        "config": {key: str(value) for key, value in vars(manager.continuous_batching_config).items()},
    }
    report(json.dumps(told))
    return TransformersBatching(manager, max_len=served.spec.max_len, streaming=streaming)


def attention(asked: str) -> str:
    """As the installed transformers spells it, of which later versions do not say "paged|" of sdpa."""
    if asked != "auto":
        return asked
    if is_flash_attn_3_available():
        return "flash_attention_3"
    if is_flash_attn_2_available():
        return "flash_attention_2"
    return "sdpa" if "auto_switch_to_flash" in _fields() else "paged|sdpa"


def config(args: argparse.Namespace, spec: ModelSpec, device: torch.device) -> ContinuousBatchingConfig:
    """Of the manager; what it finds best itself is left to it. Its share of memory is of what is free on the device, ours of the whole.

    Raises:
      ValueError: the cache has no room for a page.
    """
    chosen: dict[str, Any] = {
        "max_requests_per_batch": args.max_num_seqs,
        "max_batch_tokens": args.max_num_batched_tokens,
        "default_compile_level": args.compile_level,
        "use_cuda_graph": {"auto": None, "on": True, "off": False}[args.cuda_graph],
        "allow_block_sharing": False,  # the other engines are measured without shared prefixes
        "auto_switch_to_flash": False,
    }
    if device.type == "cuda":
        chosen["max_blocks_per_request"] = -(-spec.max_len // PAGE) + 1
    else:
        chosen["max_batch_tokens"] = args.max_num_batched_tokens or 256
    if args.kv_cache_size is not None:
        chosen["num_blocks"] = args.kv_cache_size // (PAGE * options.token_bytes(spec))
        if not chosen["num_blocks"]:
            raise ValueError(f"a cache of {args.kv_cache_size} bytes is no room for {PAGE} tokens of {options.token_bytes(spec)} bytes")
    elif device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        room = args.gpu_memory_utilization * whole - torch.cuda.memory_reserved(device)
        chosen["max_memory_percent"] = min(room / free, 0.95)
    else:
        chosen["num_blocks"] = args.max_num_seqs * -(-spec.max_len // PAGE)
    return ContinuousBatchingConfig(**{key: value for key, value in chosen.items() if key in _fields()})


def _fields() -> frozenset[str]:
    """Of the installed version's config."""
    return frozenset(ContinuousBatchingConfig.__dataclass_fields__)


def _config(served: options.Model) -> Any:
    """Of transformers, of a folder or of a published shape."""
    if served.folder.is_dir():
        return AutoConfig.from_pretrained(served.folder)
    with tempfile.TemporaryDirectory() as folder:
        return AutoConfig.from_pretrained(write_dummy_models(Path(folder), {"model": served.spec})["model"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_arguments(parser)
    add_arguments(parser)
    args = parser.parse_args()
    options.serve(build(args, report=options.say), args)


if __name__ == "__main__":
    main()
