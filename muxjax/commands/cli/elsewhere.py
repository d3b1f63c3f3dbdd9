"""Flags that users of vLLM look for, and keys of a configuration that are no flags: what to give or know in place of each."""

from dataclasses import fields

from muxjax.commands import serve_flags
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.config import OTHER_NAMES, HttpOptions
from muxjax.settings import canonical

_NAMED_BY_FLAGS = {"models", "name", "path", "loras", "api_keys", "admin_keys"}
"""Fields that flags or arguments of another name stand for."""
_VLLM_SERVE = {
    "--model": "give the folder without a flag, or NAME=FOLDER for each of several",
    "--served-model-name": "give NAME=FOLDER; further names are a model's aliases in CONFIG.yaml",
    "--tokenizer": "the tokenizer lies in the model's folder",
    "--revision": "models are folders; hf download --revision gets one",
    "--download-dir": "models are folders; hf download --local-dir gets one",
    "--trust-remote-code": "no code of a checkpoint is ever run",
    "--enforce-eager": "programs are compiled, and kept for the next start (--compilation-cache-dir)",
    "--compilation-config": "programs are compiled, and kept for the next start (--compilation-cache-dir)",
    "--enable-chunked-prefill": "long prompts always go in chunks (--max-num-batched-tokens)",
    "--enable-auto-tool-choice": "a model whose template is known calls tools (--tool-call-parser)",
    "--enable-lora": "--lora NAME=PATH:BASE is enough",
    "--lora-modules": "give --lora NAME=PATH:BASE, once for each adapter",
    "--enable-sleep-mode": "with --admin-key every model can sleep (muxjax sleep)",
    "--enable-log-requests": "what clients send is never logged, and each answer is a line",
    "--disable-log-requests": "what clients send is never logged, and each answer is a line",
    "--no-enable-log-requests": "what clients send is never logged, and each answer is a line",
    "--disable-log-stats": "--log-level warning logs no answers",
    "--uvicorn-log-level": "give --log-level",
    "--swap-space": "sequences that are pre-empted are computed again",
    "--cpu-offload-gb": "models that need not be awake may sleep in the host's memory (ttl and group in CONFIG.yaml)",
    "--kv-cache-memory-bytes": "give --kv-cache-size, of all models together",
    "--kv-cache-memory": "give --kv-cache-size, of all models together",
    "--block-size": "a head block has block_bytes of CONFIG.yaml",
    "--pipeline-parallel-size": "--tensor-parallel-size shares models out over the devices of a host",
    "--data-parallel-size": "replicas are units of a placement (--placement, --problem)",
    "--scheduling-policy": "--policy is for models; within one, requests have a priority",
    "--task": "give --pooling for embeddings",
    "--runner": "give --pooling for embeddings",
    "--convert": "give --pooling for embeddings",
    "--seed": "requests have one each",
    "--max-logprobs": "20 are the most",
    "--generation-config": "what a folder's generation_config.json says holds where a request says nothing",
    "--ssl-keyfile": "a proxy before the server has TLS",
    "--ssl-certfile": "a proxy before the server has TLS",
    "--allowed-local-media-path": "only texts are read",
    "--limit-mm-per-prompt": "only texts are read",
}
_JSON, _TARGETS = "give --json FILE for the numbers, under vLLM's keys", "give --ttft, --tpot and --e2e, in seconds"
BENCH = {
    "--backend": "a server of OpenAI's API is asked; --endpoint is completions or chat",
    "--endpoint-type": "a server of OpenAI's API is asked; --endpoint is completions or chat",
    "--host": "give --base-url http://HOST:PORT",
    "--port": "give --base-url http://HOST:PORT",
    "--dataset-name": "prompts are random tokens, or those of --dataset FILE",
    "--dataset-path": "give --dataset FILE",
    "--sharegpt-output-len": "give --output-len",
    "--random-range-ratio": "--workload and --trace have prompts of different lengths",
    "--random-prefix-len": "--workload agent-prefix has prompts that begin alike",
    "--request-rate": "give --rate",
    "--max-concurrency": "a request is sent when it is to come, however many run; --rate inf sends all at once",
    "--ramp-up-strategy": "muxjax bench sweep searches the highest rate",
    "--num-warmups": "give --warmup, of each model",
    "--goodput": _TARGETS,
    "--percentile-metrics": f"all are told; {_JSON}",
    "--metric-percentiles": f"all are told; {_JSON}",
    "--save-result": _JSON,
    "--result-dir": _JSON,
    "--result-filename": _JSON,
    "--save-detailed": "give --records FILE, a line for each request",
    "--tokenizer": "random prompts are tokens, and the server counts those of others",
    "--served-model-name": "give --model",
    "--temperature": "answers are greedy",
    "--disable-tqdm": "bars are drawn at a terminal alone",
}
"""What stands for a flag that `muxjax bench serve` and `sweep` lack, by the flag."""


def _keys() -> dict[str, str]:
    """What to say of keys of CONFIG.yaml that are no flags, by the flag that each would be."""
    every = {field.name for options in (ModelOptions, UnitOptions, HttpOptions) for field in fields(options)}
    keys = every - {canonical(name, OTHER_NAMES) for name in serve_flags.UNIT | serve_flags.HTTP} - _NAMED_BY_FLAGS
    shown = [key.removesuffix("_s") for key in keys]
    return {f"--{key.replace('_', '-')}": f"it is a key of CONFIG.yaml, {key}" for key in shown}


SERVE = _keys() | _VLLM_SERVE
"""What stands for a flag that `muxjax serve` lacks, by the flag."""
