"""Engines that serve one model a process, by the commands that they come with."""

import sys
from collections.abc import Callable, Sequence

from muxjax.bench.backends.backend import Backend, Ports, Server
from muxjax.bench.backends.fleet import Fleet, Member

Command = Callable[[Fleet, Member, int], Sequence[object]]
"""What serves a model of the fleet at a port."""


def each(name: str, about: str, command: Command, *, mps: bool = False, needs: tuple[str, ...] = (), health: str = "/health") -> Backend:
    """A process a model, with its share of the memory."""

    def servers(fleet: Fleet, ports: Ports) -> Sequence[Server]:
        return [_server(fleet, member, ports()) for member in fleet.members]

    def _server(fleet: Fleet, member: Member, port: int) -> Server:
        told = tuple(map(str, command(fleet, member, port)))
        return Server(name=member.name, models=(member.name,), command=told, port=port, health=health)

    return Backend(name=name, about=about, servers=servers, mps=mps, needs=needs)


def module(name: str) -> Command:
    """A Python module with the flags of `muxjax serve`, such as a baseline of our own."""

    def command(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
        return [
            *(sys.executable, "-m", name, f"{member.name}={member.path}", "--port", port, "--dtype", fleet.dtype),
            *("--load-format", "dummy" if fleet.dummy else "auto", "--max-model-len", fleet.max_model_len),
            *("--max-num-seqs", fleet.max_num_seqs, "--kv-cache-size", fleet.own_cache_bytes(member)),
        ]

    return command


def vllm(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
    """As of `vllm serve --help`, version 0.26."""
    return [
        *("vllm", "serve", member.path, "--served-model-name", member.name, "--port", port, "--dtype", fleet.dtype),
        *("--load-format", "dummy" if fleet.dummy else "auto", "--max-model-len", fleet.max_model_len),
        *("--max-num-seqs", fleet.max_num_seqs, "--gpu-memory-utilization", _memory(fleet, member)),
        *("--kv-cache-memory-bytes", fleet.own_cache_bytes(member)),
        *(["--skip-tokenizer-init"] if fleet.dummy else []),
    ]


def sglang(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
    """As of `python -m sglang.launch_server --help`, version 0.5."""
    return [
        *(sys.executable, "-m", "sglang.launch_server", "--model-path", member.path, "--served-model-name", member.name),
        *("--port", port, "--dtype", fleet.dtype, "--load-format", "dummy" if fleet.dummy else "auto"),
        *("--context-length", fleet.max_model_len, "--max-running-requests", fleet.max_num_seqs),
        *("--mem-fraction-static", _memory(fleet, member)),
        *(["--skip-tokenizer-init"] if fleet.dummy else []),
    ]


def llama_cpp(fleet: Fleet, member: Member, port: int) -> Sequence[object]:
    """llama-cpp-python's server; a member's path is its file in GGUF."""
    return [
        *(sys.executable, "-m", "llama_cpp.server", "--model", member.path, "--model_alias", member.name, "--port", port),
        *("--n_ctx", fleet.max_model_len),
    ]


def _memory(fleet: Fleet, member: Member) -> str:
    return f"{fleet.memory_fraction(member):.4f}"
