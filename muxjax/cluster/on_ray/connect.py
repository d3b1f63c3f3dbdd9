"""The front's way into a Ray cluster."""

import os
import socket
import time
from collections.abc import Sequence

from muxjax.cluster.launcher import NoRoom
from muxjax.cluster.on_ray.nodes import device_kind, lacking, nodes
from muxjax.cluster.plan import UnitSpec
from muxjax.errors import ConfigError, first_line

NAMESPACE = "muxjax"
_CONNECT_S, _POLL_S = 5.0, 0.5


def connect(address: str) -> None:
    """Joins the cluster, from one of its hosts.

    Args:
      address: HOST:PORT of its head; auto for the cluster of this host.
    Raises:
      ConfigError: Ray is not installed, or no cluster is there.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError as error:
        raise ConfigError("ray needs a package that is not installed: pip install 'muxjax[ray]'", field="ray") from error
    _check_listens(address)
    try:
        ray.init(address=address, namespace=NAMESPACE)
    except (ConnectionError, ValueError, RuntimeError, AssertionError, RayError) as error:
        raise ConfigError(f"ray: no cluster to be had at {address}: {first_line(error)}", field="ray") from error


def _check_listens(address: str) -> None:
    """Ray itself would try for minutes.

    Raises:
      ConfigError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    try:
        if host:
            socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        raise ConfigError(f"ray: no cluster to be had at {address}: {error.strerror or error}", field="ray") from error


def kind_for(specs: Sequence[UnitSpec], room_s: float) -> str:
    """The kind of devices that the units are to have, as of `device_kind`, once the cluster has so many of them.

    Raises:
      NoRoom: it has not in that time.
    """
    import ray

    until_s = time.monotonic() + room_s
    while True:
        told = ray.nodes()
        kind = device_kind(told, os.environ)
        trouble = lacking(specs, nodes(told, kind), kind)
        if not trouble:
            return kind
        if time.monotonic() > until_s:
            raise NoRoom(trouble, field="ray")
        time.sleep(_POLL_S)
