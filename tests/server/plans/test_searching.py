"""A search beside the server holds nothing up."""

import asyncio
import multiprocessing
import os
import time
from concurrent.futures import BrokenExecutor

import pytest

from muxjax.server.plans.searching import search_process
from tests.cluster.kit import in_loop


async def searched(search, *arguments):
    with search_process() as process:
        return await asyncio.get_running_loop().run_in_executor(process, search, *arguments)


@in_loop
async def test_a_search_ends_with_whoever_waits_for_it():
    others = set(multiprocessing.active_children())
    searching = asyncio.create_task(searched(time.sleep, 600))
    while not (children := set(multiprocessing.active_children()) - others):
        assert not searching.done()
        await asyncio.sleep(0.05)
    began_s = time.monotonic()
    searching.cancel()
    await asyncio.gather(searching, return_exceptions=True)
    assert time.monotonic() - began_s < 50
    # Whoever reaps a child first knows its exit status alone, and the executor's thread waits for it too: ask until both know.
    while any(child.is_alive() for child in children):
        assert time.monotonic() - began_s < 50, f"{children} go on"
        await asyncio.sleep(0.05)


@in_loop
async def test_a_search_that_dies_is_an_error_and_the_next_one_is_not():
    with pytest.raises(BrokenExecutor):
        await searched(os._exit, 1)
    assert await searched(abs, -1) == 1
