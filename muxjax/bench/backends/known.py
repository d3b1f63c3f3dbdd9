"""The backends by name."""

from muxjax.bench.backends import engines
from muxjax.bench.backends.mux import apart, share_percent, together

_ALL = (
    together("mux", "muxjax as it comes: a lane a model, policy mux"),
    together("lanes", "muxjax, a lane a model, policy adbs", "--policy", "adbs"),
    together("adbs", "muxjax, one lane, policy adbs: MuxServe's own schedule", "--lanes", "1", "--policy", "adbs"),
    together("round-robin", "muxjax, one lane, models one after the other", "--lanes", "1", "--policy", "round_robin"),
    together("turns", "muxjax, one lane, first come, first served", "--lanes", "1", "--policy", "fcfs"),
    apart("spatial", "muxjax, a process a model: a fixed share of memory and of multiprocessors", percent=share_percent),
    apart("static-memory", "muxjax, a process a model: a fixed share of memory, all multiprocessors", percent=lambda member: None),
    engines.each("vllm", "vLLM, a process a model, in turns by the driver", engines.vllm, needs=("vllm",)),
    engines.each("vllm-mps", "vLLM, a process a model, under MPS", engines.vllm, mps=True, needs=("vllm",)),
    engines.each("sglang", "SGLang, a process a model, in turns by the driver", engines.sglang, needs=("sglang",)),
    engines.each("sglang-mps", "SGLang, a process a model, under MPS", engines.sglang, mps=True, needs=("sglang",)),
    engines.each("llama.cpp", "llama.cpp, a process a model, on CPU", engines.llama_cpp, needs=("llama_cpp",), health="/v1/models"),
)
BY_NAME = {backend.name: backend for backend in _ALL}
"""Those that come with the package."""
