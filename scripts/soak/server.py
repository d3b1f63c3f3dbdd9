"""The server of the soak: a process with three tiny models, and what can be seen of it from outside."""

import contextlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from muxjax.demo.run import shipped
from muxjax.model_spec import ModelSpec
from muxjax.specs.dummy import write_dummy_models
from scripts import served

LONG = ModelSpec(
    vocab=300, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, max_len=1024, windows=(None, None), dtype="float32"
)
_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)
_FAULT = re.compile(r"^\S+ \S+ ERROR |^Traceback", re.MULTILINE)
LIMITS = {"max_num_queued_reqs": 24, "write_timeout": 2, "read_timeout": 5, "max_body_size": 2**18, "shutdown_timeout": 5}


class SoakServer:
    """One that is ready.

    Args:
      address: without the /v1.
    """

    def __init__(self, process: subprocess.Popen[str], address: str, log: Path):
        self.address = address
        self._process, self._log = process, log

    async def state(self) -> dict[str, Any]:
        """Requests, tasks, blocks, and all requests that ever ended, by reason."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            load, info = [await _json(session, f"{self.address}/{path}") for path in ("load", "server_info")]
            async with session.get(f"{self.address}/metrics") as response:
                samples = [sample for family in text_string_to_metric_families(await response.text()) for sample in family.samples]
        ended: Counter[str] = Counter()
        for sample in samples:
            if sample.name == "vllm:request_success_total":
                ended[sample.labels["finished_reason"]] += int(sample.value)
        cache = info["cache"]
        return {
            "load": load["server_load"],
            "tasks": next(int(sample.value) for sample in samples if sample.name == "muxjax_tasks"),
            "total_blocks": cache["total_blocks"],
            "free_blocks": cache["free_blocks"],
            "ended": dict(ended),
        }

    def memory_bytes(self) -> int:
        """Resident now."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self._process.terminate()
        return self._process.wait(timeout=60)

    def errors(self) -> list[str]:
        """What it logged of faults of its own, each with its traceback."""
        return logged_faults(self._log.read_text(errors="replace"))


def logged_faults(log: str, *, most: int = 20, longest: int = 8000) -> list[str]:
    """Entries of a log that tell of a fault: a line that begins with a time, and those below it that do not."""
    entries = _ENTRY.split(log)
    return [entry.strip()[:longest] for entry in entries if _FAULT.search(entry)][:most]


async def _json(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as response:
        response.raise_for_status()
        return await response.json()


@contextlib.contextmanager
def running(folder: Path, admin_key: str) -> Iterator[SoakServer]:
    """Started in a process of its own, which is killed when the block is left."""
    with served.serving(_configuration(folder), environment={"MUXJAX_ADMIN_KEY": admin_key}) as server:
        yield SoakServer(server.process, server.address, server.log)


def _configuration(folder: Path) -> Path:
    """A file for two of the demo's models and one with random weights and more room."""
    write_dummy_models(folder, {"long": LONG})
    models = [{"name": path.name, "path": str(path), "max_num_seqs": 8} for path in shipped()[:2]]
    models.append({"name": "long", "path": str(folder / "long"), "max_num_seqs": 8, "load_format": "dummy"})
    unit = {"port": 0, "kv_cache_size": "2MiB", "block_bytes": 2048, "max_num_batched_tokens": 128, "models": models}
    path = folder / "soak.yaml"
    path.write_text(yaml.safe_dump({**unit, **LIMITS}))
    return path
