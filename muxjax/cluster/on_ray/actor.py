"""What runs in an actor: a worker as everywhere else, whose process Ray keeps."""

import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future

from muxjax.cluster.wire.frames import TcpAddress
from muxjax.cluster.worker import Build, Worker

_KEY_BYTES, _LISTEN_S = 32, 30.0


class WorkerActor:
    """A worker of one unit, which listens on a free port of its host.

    Args:
      begin: is called first, in the actor's process.
      build, orphan_s: as of `Worker`.
    """

    def __init__(self, begin: Callable[[], object], build: Build, orphan_s: float):
        from ray.util import get_node_ip_address

        begin()
        self._host, self._key = get_node_ip_address(), secrets.token_bytes(_KEY_BYTES)
        self._port: Future[int] = Future()
        threading.Thread(target=self._work, args=(Worker(build, orphan_s=orphan_s),), name="muxjax-worker", daemon=True).start()

    def address(self) -> TcpAddress:
        """Where it listens, with its key: whoever may ask the cluster for it may run any program there anyhow."""
        return TcpAddress(self._host, self._port.result(_LISTEN_S), self._key)

    def _work(self, worker: Worker) -> None:
        status = 1
        try:
            status = worker.run(TcpAddress(self._host, 0, self._key), lambda listener: self._port.set_result(listener.getsockname()[1]))
        finally:
            _free_devices()
            os._exit(status)  # an orderly end would wait for the device


def _free_devices() -> None:
    """Ends the actor's own placement group, which would hold its devices for ever if no front came any more."""
    from ray.util.placement_group import get_current_placement_group, remove_placement_group

    if (group := get_current_placement_group()) is not None:
        remove_placement_group(group)
