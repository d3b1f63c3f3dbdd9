"""Policies by the names that configurations use."""

from muxjax.errors import ConfigError
from muxjax.scheduler.adbs import adbs
from muxjax.scheduler.fcfs import fcfs
from muxjax.scheduler.round_robin import round_robin
from muxjax.scheduler.view import Policy

BY_NAME: dict[str, Policy] = {"adbs": adbs, "round_robin": round_robin, "fcfs": fcfs}


def by_name(name: str) -> Policy:
    """The policy of that name.

    Raises:
      ConfigError: there is none.
    """
    if name not in BY_NAME:
        raise ConfigError(f"policy must be one of {', '.join(BY_NAME)}, got {name!r}", field="policy")
    return BY_NAME[name]
