"""`muxjax worker`: one unit in a process of its own, for a server elsewhere."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from muxjax.cluster.wire.frames import Address, TcpAddress, UnixAddress
from muxjax.cluster.worker import Worker
from muxjax.errors import ConfigError, require
from muxjax.server.telemetry import logs

KEY = "MUXJAX_WORKER_KEY"
LEAST_KEY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Where a worker listens, one of the two, and how it logs."""

    socket: Path | None = None
    listen: str | None = None
    name: str = ""
    log_level: str = "info"
    log_format: str = "text"

    def address(self, environment: Mapping[str, str] = os.environ) -> Address:
        """Raises ConfigError: neither or both are given, or the port or its key is missing."""
        require((self.socket is None) != (self.listen is None), "socket", self.socket, "given where listen is not, and not beside it")
        if self.socket is not None:
            return UnixAddress(self.socket)
        host, _, port = str(self.listen).rpartition(":")
        require(bool(host) and port.isdecimal() and int(port) < 2**16, "listen", self.listen, "HOST:PORT")
        key = environment.get(KEY, "")
        if len(key) < LEAST_KEY:
            raise ConfigError(f"{KEY} must hold a key of at least {LEAST_KEY} letters, which the server has too", field="listen")
        return TcpAddress(host, int(port), key.encode())


def run(options: WorkerOptions) -> int:
    """Serves until a server stops it; the process's status.

    Raises:
      ConfigError: it cannot listen there.
    """
    logs.configure(options.log_level, options.log_format, about=f"unit {options.name}" if options.name else "")
    return Worker().run(options.address())
