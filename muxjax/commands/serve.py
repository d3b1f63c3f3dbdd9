"""`muxjax serve`: one unit in this process, or the units of a placement in processes of their own."""

import asyncio
import os
import sys

from muxjax.cluster import launcher
from muxjax.cluster.options import ClusterOptions
from muxjax.cluster.plan import unit_specs
from muxjax.commands.place import solve
from muxjax.commands.problem_file import read_problem
from muxjax.placement.plan_file import read_placement
from muxjax.placement.problem import Placement
from muxjax.server.build import build_cluster, build_service
from muxjax.server.config import Options
from muxjax.server.http.serve import serve
from muxjax.server.net import open_files
from muxjax.server.net.sockets import bound, port_of
from muxjax.server.service import Service
from muxjax.server.telemetry import logs
from muxjax.server.telemetry.watcher import open_watchers


def run(options: Options) -> int:
    """Serves until a signal; the process's status.

    Raises:
      ConfigError, CheckpointError: it cannot begin.
    """
    unit, http, cluster = options
    logs.configure(http.log_level, http.log_format)
    open_files.raise_limit()
    with bound(http) as sockets, open_watchers(http) as watchers:  # before minutes of loading
        service = build_service(unit) if cluster.is_one_unit else _cluster(options, port_of(sockets.public))
        service.watchers += watchers
        ended = asyncio.run(serve(service, http, sockets))
    if not ended:
        print("muxjax: the engine has failed, as the log says", file=sys.stderr, flush=True)
        os._exit(1)  # an orderly end would wait for the device
    return 0


def _cluster(options: Options, port: int) -> Service:
    """The service of a placement's units, by workers on this host.

    Raises:
      ConfigError: there is none, or it cannot be served here.
    """
    unit, http, cluster = options
    specs = unit_specs(_placement(cluster), unit, devices=launcher.device_count(os.environ))
    folder = cluster.worker_dir or launcher.socket_folder(port)
    workers = launcher.LocalLauncher(folder=folder, arguments=("--log-level", http.log_level, "--log-format", http.log_format))
    return build_cluster(specs, unit, workers, silence_s=cluster.worker_timeout_s)


def _placement(cluster: ClusterOptions) -> Placement:
    """Raises ConfigError: the file cannot be read, or the problem not be solved."""
    if cluster.problem is not None:
        return solve(read_problem(cluster.problem)).placement
    assert cluster.placement is not None
    return read_placement(cluster.placement)
