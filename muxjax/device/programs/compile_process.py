"""A process that compiles, from its first line on: it ends with the one that has started it, even while it is stopped.

    python -m muxjax.device.programs.compile_process

It writes an empty line when that is certain; what follows is `worker`'s.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Has the kernel kill this process when the thread that has started it ends; on Linux, which lets it be set for oneself alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


if __name__ == "__main__":
    end_with_parent()
    print(flush=True)
    from muxjax.device.programs.worker import main  # imports JAX, which takes seconds, in which it may be stopped

    main()
