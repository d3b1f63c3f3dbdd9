"""Options that both baselines have, named as those of `muxjax serve`."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.server.text.detokenizer import ContextDetokenizer
from muxjax.server.text.tokenizer import HfTokenizer
from muxjax.specs import published
from muxjax.specs.config import read_spec
from muxjax.specs.tokens import TOKENIZER
from muxjax.units import parse_bytes
from scripts.baselines import server
from scripts.baselines.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One to serve. Its spec has the most tokens and the dtype that were asked for."""

    name: str
    folder: Path
    spec: ModelSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the model and its memory, and of where it is served."""
    parser.add_argument("model", help="[name=]folder with a config.json; or the name of a published shape, with --load-format dummy")
    parser.add_argument("--load-format", choices=("auto", "dummy"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"), default="auto")
    parser.add_argument("--max-model-len", type=int, default=2048, help="most tokens of prompt and answer")
    parser.add_argument("--max-num-seqs", type=int, default=256, help="most requests at once")
    parser.add_argument("--max-num-batched-tokens", type=int, help="most tokens of a prefill of several prompts")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9, help="share of the whole GPU's memory")
    parser.add_argument("--kv-cache-size", type=_size, help="of the cache, such as 16GiB, in place of what that share leaves")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")


def model(args: argparse.Namespace) -> Model:
    """
    Raises:
      ConfigError: the folder is none, or its model is not supported.
    """
    name, _, path = args.model.rpartition("=")
    spec = published.BY_NAME.get(path) if args.load_format == "dummy" and not Path(path).exists() else None
    if spec is None:
        spec = read_spec(Path(path), dtype=args.dtype, weights=args.load_format != "dummy")
    elif args.dtype != "auto":
        spec = replace(spec, dtype=args.dtype)
    return Model(name=name or Path(path).name, folder=Path(path), spec=replace(spec, max_len=min(spec.max_len, args.max_model_len)))


def token_bytes(spec: ModelSpec) -> int:
    """Of a token in the cache."""
    return 2 * spec.layers * spec.kv_heads * spec.head_dim * getattr(torch, spec.dtype).itemsize


def text_of(folder: Path) -> server.Text:
    """As muxjax tells answers; numbers of tokens where the folder has no tokenizer."""
    if not (folder / TOKENIZER).exists():
        return server.numbers
    decode = HfTokenizer(folder / TOKENIZER).decode

    def text(prompt: Sequence[int], tokens: Sequence[int]) -> str:
        told = ContextDetokenizer(decode, prompt)
        return told.feed(tokens) + told.flush()

    return text


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def serve(engine: Engine, args: argparse.Namespace) -> None:
    """Until a signal; prints the address of the API when it answers."""
    served = model(args)
    stop, text = frozenset(served.spec.eos_ids), text_of(served.folder)
    asyncio.run(server.serve(engine, served.name, stop=stop, text=text, host=args.host, port=args.port))


def say(what: Any) -> None:
    """A line that is seen at once, though the output is a pipe."""
    print(what, flush=True)


def _size(text: str) -> int:
    try:
        return parse_bytes(text, field="the size")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
