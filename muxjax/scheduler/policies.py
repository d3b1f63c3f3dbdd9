"""Policies by the names that configurations use."""

from muxjax.errors import ConfigError
from muxjax.scheduler.adbs import adbs
from muxjax.scheduler.fcfs import fcfs
from muxjax.scheduler.mux import mux
from muxjax.scheduler.round_robin import round_robin
from muxjax.scheduler.view import Policy

BY_NAME: dict[str, Policy] = {"adbs": adbs, "mux": mux, "round_robin": round_robin, "fcfs": fcfs}
OTHER_NAMES = {"temporal": "fcfs"}
"""MuxServe's baseline of temporal multiplexing: one job at a time in the whole unit, first come, first served."""


def default(lanes: int) -> str:
    """The name of the policy for so many lanes, where nobody names one."""
    return "mux" if lanes > 1 else "adbs"


def by_name(name: str) -> Policy:
    """The policy of that name, or of another name for it.

    Raises:
      ConfigError: there is none.
    """
    name = OTHER_NAMES.get(name, name)
    if name not in BY_NAME:
        raise ConfigError(f"policy must be one of {', '.join(BY_NAME)}, got {name!r}", field="policy")
    return BY_NAME[name]
