"""Memory of the devices of this host, for who looks at the server now."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from muxjax.cluster import launcher, nvidia

_KEPT_S = 5.0
"""So long a reading is told again: asking the driver takes a process."""


def read(environment: Mapping[str, str] = os.environ) -> list[dict[str, Any]]:
    """Name, used and total bytes of each GPU; of the machine's memory where the devices are its CPU's."""
    if launcher.is_cpu(environment):
        return [_machine()]
    return [gpu._asdict() for gpu in nvidia.gpus(environment)]


class MemoryReader:
    """Readings of it, for the tasks of one event loop.

    Args:
      read: takes its time, in a thread.
    """

    def __init__(self, read: Callable[[], list[dict[str, Any]]] = read):
        self._read = read
        self._last: list[dict[str, Any]] = []
        self._read_s = -float("inf")
        self._one = asyncio.Lock()

    async def last(self) -> list[dict[str, Any]]:
        """What was read within the last seconds."""
        async with self._one:
            if time.monotonic() - self._read_s >= _KEPT_S:
                self._last, self._read_s = await asyncio.to_thread(self._read), time.monotonic()
        return self._last


def _machine() -> dict[str, Any]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = Path("/proc/meminfo")
    fields = dict(line.split(":", 1) for line in lines.read_text().splitlines()) if lines.exists() else {}
    available = int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else total
    return {"name": "this machine", "used_bytes": total - available, "total_bytes": total}
