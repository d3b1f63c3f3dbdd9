"""Open files of the process (ulimit -n, RLIMIT_NOFILE), and how many of them connections may be."""

import contextlib
import logging
import os
import resource

_RAISED = 2**20
"""Enough for anybody; more makes programs slow that go through all that could be open."""
_OWN = 64
"""Kept for the process itself beside what is open when it begins to listen: devices, programs, random numbers, logs."""
_MOST = 2**14
_log = logging.getLogger(__name__)


def raise_limit() -> None:
    """As many open files as the process may ask for: the soft limit becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _RAISED if hard == resource.RLIM_INFINITY else min(hard, _RAISED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections(most: int | None) -> int:
    """Connections that may be open at a time: so many, or else what the limit of open files leaves.

    The process keeps 64 files beside those it has, or half of what is left where that is less.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = _RAISED if soft == resource.RLIM_INFINITY else max(soft - _open_files(), 2)
    room = left - min(_OWN, left // 2)
    if most is not None and most > room:
        _log.warning("max_connections is %d, and %d open files (ulimit -n) leave room for %d", most, soft, room)
    return min(_MOST if most is None else most, room)


def _open_files() -> int:
    return len(os.listdir("/dev/fd"))
