"""The backends by name."""

from muxjax.bench.backends import engines
from muxjax.bench.backends.backend import Backend
from muxjax.bench.backends.mux import all_of_the_cache, apart, share_percent, together
from muxjax.errors import require

_ALL = (
    together("mux", "muxjax as it comes: a lane a model, policy mux"),
    together("lanes", "muxjax, a lane a model, policy adbs", "--policy", "adbs"),
    together("adbs", "muxjax, one lane, policy adbs: MuxServe's own schedule", "--lanes", "1", "--policy", "adbs"),
    together("round-robin", "muxjax, one lane, models one after the other", "--lanes", "1", "--policy", "round_robin"),
    together("turns", "muxjax, one lane, first come, first served", "--lanes", "1", "--policy", "fcfs"),
    apart("spatial", "muxjax, a process a model: a fixed share of memory and of multiprocessors", percent=share_percent),
    apart(
        "spatial-whole",
        "muxjax, a process a model: a fixed share of multiprocessors, and each a cache as large as all models have together elsewhere",
        percent=share_percent,
        cache_bytes=all_of_the_cache,
    ),
    apart("static-memory", "muxjax, a process a model: a fixed share of memory, all multiprocessors"),
    engines.each("vllm", "vLLM, a process a model, in turns by the driver", engines.vllm, program="vllm"),
    engines.each("vllm-mps", "vLLM, a process a model, under MPS", engines.vllm, mps=True, program="vllm"),
    engines.each("sglang", "SGLang, a process a model, in turns by the driver", engines.sglang, package="sglang"),
    engines.each("sglang-mps", "SGLang, a process a model, under MPS", engines.sglang, mps=True, package="sglang"),
    engines.each("llama.cpp", "llama.cpp, a process a model, in turns by the driver", engines.llama_cpp, program="llama-server"),
)
BY_NAME = {backend.name: backend for backend in _ALL}
"""Those that come with the package."""
MPS = "-mps"
"""End of the names of backends whose processes share the GPU through MPS."""


def backend_of(name: str) -> Backend:
    """The backend of that name, or of a module as NAME=MODULE.

    Raises:
      ConfigError: there is none of that name, or it is another one's.
    """
    own, _, module = name.partition("=")
    if own and module:
        require(own not in BY_NAME, "backends", name, "by another name than those of " + ", ".join(BY_NAME))
        mps = own.endswith(MPS)
        return engines.each(
            own, f"{module}, a process a model{', under MPS' if mps else ''}", engines.module(module), mps=mps, package=module
        )
    require(name in BY_NAME, "backends", name, "of " + ", ".join(BY_NAME) + ", or NAME=MODULE")
    return BY_NAME[name]
