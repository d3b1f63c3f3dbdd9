"""Engines that serve one model a process, by the commands that they come with."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from muxjax.bench.backends.backend import HOST, Backend, Ports, Server, in_fewer_bits, serve_flags
from muxjax.bench.backends.fleet import Fleet, Member
from muxjax.errors import ConfigError

Command = Callable[[Fleet, Member, int], Sequence[object]]
"""What serves a model of the fleet at a port."""
MOST_FRACTION = 0.95
"""Of the memory that is free when SGLang starts, which is beside others; how much it takes of that is said in tokens."""
LLAMA_CPP_TYPES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}
LLAMA_CPP_SEQUENCES = 256
"""Most that it has room for at a time, whatever it is asked."""


def each(name: str, about: str, command: Command, **how: Any) -> Backend:
    """A process a model, with its share of the memory; further fields are as of `Backend`."""

    def servers(fleet: Fleet, ports: Ports) -> Sequence[Server]:
        return [_server(fleet, member, ports()) for member in fleet.members]

    def _server(fleet: Fleet, member: Member, port: int) -> Server:
        told = tuple(map(str, command(fleet, member, port)))
        return Server(name=member.name, models=(member.name,), command=told, port=port)

    return Backend(name=name, about=about, servers=servers, **how)


def module(name: str) -> Command:
    """A Python module with the flags of `muxjax serve`, such as a baseline of our own."""

    def command(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
        return [sys.executable, "-m", name, f"{member.name}={member.path}", *serve_flags(fleet, port, fleet.own_cache_bytes(member))]

    return command


def vllm(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
    """As of `vllm serve --help`, version 0.26; how much memory it is to have in all is only checked, at its start.

    On GPUs that multiply FP8, matrices in it have activations rounded, too, whichever of ours is asked.
    """
    return [
        *("vllm", "serve", member.path, "--served-model-name", member.name, "--host", HOST, "--port", port, "--dtype", fleet.dtype),
        *("--load-format", fleet.load_format, "--max-model-len", fleet.max_model_len),
        *("--max-num-seqs", fleet.max_num_seqs, "--gpu-memory-utilization", f"{fleet.memory_fraction(member):.4f}"),
        *("--kv-cache-memory-bytes", fleet.own_cache_bytes(member)),
        *in_fewer_bits(fleet, quantization="fp8", cache="fp8"),
        *([] if _has_tokenizer(member) else ["--skip-tokenizer-init"]),
    ]


def sglang(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
    """As of `python -m sglang.launch_server --help`, version 0.5. Of activations beside matrices in FP8, see `vllm`.

    Raises:
      ConfigError: the model has no tokenizer, without which its completions fail (sgl-project/sglang#7727).
    """
    if not _has_tokenizer(member):
        raise ConfigError(f"{member.path} has no tokenizer.json, without which SGLang answers no completions", field="backend")
    return [
        *(sys.executable, "-m", "sglang.launch_server", "--model-path", member.path, "--served-model-name", member.name),
        *("--host", HOST, "--port", port, "--dtype", fleet.dtype, "--load-format", fleet.load_format),
        *("--context-length", fleet.max_model_len, "--max-running-requests", fleet.max_num_seqs),
        *("--mem-fraction-static", MOST_FRACTION, "--max-total-tokens", fleet.own_cache_tokens(member)),
        *in_fewer_bits(fleet, quantization="fp8", cache="fp8_e4m3"),
    ]


def llama_cpp(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
    """llama.cpp's own server, as of its README; the model's folder has a file in GGUF.

    Raises:
      ConfigError: it has none; or weights or cache are to be in FP8, which llama.cpp has not.
    """
    if fleet.quantization or fleet.has_fp8_cache:
        raise ConfigError("llama.cpp has no FP8: leave out quantization and kv_cache_dtype, or the backend", field="backend")
    files = sorted(member.path.glob("*.gguf"))
    if not files:
        raise ConfigError(f"{member.path} has no file in GGUF, which llama.cpp reads", field="backend")
    kind = LLAMA_CPP_TYPES[fleet.dtype]
    return [
        *("llama-server", "--model", files[0], "--alias", member.name, "--host", HOST, "--port", port),
        *("--parallel", min(fleet.max_num_seqs, LLAMA_CPP_SEQUENCES), "--kv-unified", "--ctx-size", fleet.own_cache_tokens(member)),
        *("--cache-type-k", kind, "--cache-type-v", kind),
    ]


def _has_tokenizer(member: Member) -> bool:
    return (member.path / "tokenizer.json").is_file()
