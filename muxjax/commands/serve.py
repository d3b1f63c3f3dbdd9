"""`muxjax serve`: one unit, or the units of a placement; on GPUs in processes of their own."""

import asyncio
import functools
import logging
import os
import sys
from collections.abc import Sequence

from muxjax import __version__
from muxjax.cluster import launcher
from muxjax.cluster.on_ray.connect import connect, kind_for
from muxjax.cluster.on_ray.launcher import RayLauncher
from muxjax.cluster.options import ClusterOptions
from muxjax.cluster.plan import UnitSpec, one_unit, unit_specs
from muxjax.commands.check import planned
from muxjax.commands.place import better, solve
from muxjax.commands.problem_file import read_problem
from muxjax.placement.problem import Placement, Problem
from muxjax.server.build import build_cluster, build_service
from muxjax.server.config import Options
from muxjax.server.http.serve import serve
from muxjax.server.net import open_files
from muxjax.server.net.sockets import bound, port_of
from muxjax.server.plans.refit import Refit
from muxjax.server.plans.replanner import Replanner
from muxjax.server.service import Service
from muxjax.server.telemetry import logs
from muxjax.server.telemetry.watcher import open_watchers

_log = logging.getLogger(__name__)


def run(options: Options) -> int:
    """Serves until a signal; the process's status.

    Raises:
      ConfigError, CheckpointError: it cannot begin.
    """
    unit, http, cluster = options
    logs.configure(http.log_level, http.log_format)
    open_files.raise_limit()
    with bound(http) as sockets, open_watchers(http) as watchers:  # before minutes of loading
        _log.info("muxjax %s starts, with %s", __version__, ", ".join(model.name for model in unit.models))
        if _has_workers(cluster):
            service = _cluster(options, port_of(sockets.public))
        else:
            service = build_service(unit, report=_log.info, told=lambda phase: _log.info("starting: %s", phase))
        service.watchers += watchers
        ended = asyncio.run(serve(service, http, sockets))
    _log.info("ended")
    if not ended:
        print("muxjax: the engine has failed, as the log says", file=sys.stderr, flush=True)
        os._exit(1)  # an orderly end would wait for the device
    return 0


def _has_workers(cluster: ClusterOptions) -> bool:
    """On a CPU, one unit and its server would take the processor from each other anyhow."""
    if not cluster.is_one_unit:
        return True
    return not launcher.is_cpu(os.environ) if cluster.worker is None else cluster.worker


def _cluster(options: Options, port: int) -> Service:
    """The service of a placement's units, by workers on this host or where Ray has room.

    Raises:
      ConfigError: there is none, or it cannot be served there.
    """
    unit, _, cluster = options
    placement = one_unit(unit) if cluster.is_one_unit else planned(options)
    if cluster.ray:
        workers = _ray_workers(options, unit_specs(placement, unit), port)
        service = build_cluster(placement, unit, workers, silence_s=cluster.worker_timeout_s, report=_log.info)
        if cluster.problem is not None and cluster.replan_s is None:
            service.chores.append(_refit(read_problem(cluster.problem, unit.models), workers, service).run)
    else:
        devices = launcher.device_count(os.environ)
        workers = _local_workers(options, port)
        specs = unit_specs(placement, unit, devices=devices)
        workers.claim()
        workers.end_others(spec.name for spec in specs)
        service = build_cluster(placement, unit, workers, devices=devices, silence_s=cluster.worker_timeout_s, report=_log.info)
    if cluster.replan_s is not None:
        service.chores.append(_replanner(options, cluster.replan_s, service).run)
    return service


def _local_workers(options: Options, port: int) -> launcher.LocalLauncher:
    _, http, cluster = options
    folder = cluster.worker_dir or launcher.socket_folder(port)
    return launcher.LocalLauncher(folder=folder, arguments=("--log-level", http.log_level, "--log-format", http.log_format))


def _ray_workers(options: Options, specs: Sequence[UnitSpec], port: int) -> RayLauncher:
    """Workers by a Ray cluster, which is joined.

    Raises:
      ConfigError: Ray or its cluster is not there, or has too few devices.
    """
    _, http, cluster = options
    assert cluster.ray is not None
    connect(cluster.ray)
    kind, begin = kind_for(specs, cluster.ray_timeout_s), functools.partial(_begin_worker, http.log_level, http.log_format)
    workers = RayLauncher(f"muxjax {port}", kind, room_s=cluster.ray_timeout_s, begin=begin)
    workers.end_others(spec.name for spec in specs)
    return workers


def _begin_worker(log_level: str, log_format: str, unit: str) -> None:
    """What a worker's process does first."""
    logs.configure(log_level, log_format, about=f"unit {unit}")


def _replanner(options: Options, every_s: float, service: Service) -> Replanner:
    cluster = options.cluster
    assert cluster.problem is not None and service.placing is not None
    return Replanner(
        problem=read_problem(cluster.problem, options.unit.models),
        placing=service.placing,
        exposition=service.metrics.exposition,
        search=better,
        every_s=every_s,
        applies=cluster.replan_apply,
    )


def _refit(problem: Problem, workers: RayLauncher, service: Service) -> Refit:
    assert service.placing is not None
    return Refit(problem=problem, placing=service.placing, nodes=workers.nodes, search=_solved)


def _solved(problem: Problem) -> Placement:
    return solve(problem).placement
