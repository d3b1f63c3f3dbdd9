"""A process for searches of a placement beside the server."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor


@contextlib.contextmanager
def search_process() -> Iterator[ProcessPoolExecutor]:
    """A process for one search, which ends with whoever waits for it: an executor's own end would hold up the event loop for as long as
    it searches."""
    process = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield process
    finally:
        for child in list((process._processes or {}).values()):  # there is no public way before Python 3.14
            child.kill()
        process.shutdown(wait=False, cancel_futures=True)
