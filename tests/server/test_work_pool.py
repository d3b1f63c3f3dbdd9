"""Work of clients is shared among tenants, whatever one of them sends."""

import asyncio
import threading

import pytest

from muxjax.server.work_pool import WorkPool


class Held:
    """Work that goes on until it is let go."""

    def __init__(self):
        self.go, self.begun, self.lock = threading.Event(), 0, threading.Lock()

    def __call__(self) -> str:
        with self.lock:
            self.begun += 1
        assert self.go.wait(30)
        return "done"


@pytest.fixture
def pool():
    made = WorkPool("test", threads=2, share=1)
    yield made
    made.close()


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_one_tenant_holds_no_more_than_its_share_and_another_is_served_at_once(pool):
    async def run() -> None:
        held = Held()
        many = [asyncio.create_task(pool.run("greedy", held)) for _ in range(20)]
        await until(lambda: held.begun)
        assert await asyncio.wait_for(pool.run("other", lambda: 7), 30) == 7
        assert held.begun == 1
        held.go.set()
        assert await asyncio.gather(*many) == ["done"] * 20

    asyncio.run(run())


def test_who_leaves_does_not_free_the_thread_that_still_works_for_it(pool):
    async def run() -> None:
        held = Held()
        for _ in range(5):
            leaving = asyncio.create_task(pool.run("greedy", held))
            await asyncio.sleep(0.01)
            leaving.cancel()
        await until(lambda: held.begun)
        assert await asyncio.wait_for(pool.run("other", lambda: 7), 30) == 7
        assert held.begun == 1
        held.go.set()
        assert await asyncio.wait_for(pool.run("greedy", lambda: 8), 30) == 8

    asyncio.run(run())


def test_a_pool_forgets_who_has_no_work(pool):
    async def run() -> None:
        await asyncio.gather(*(pool.run(f"tenant {number}", lambda: None) for number in range(50)))
        await until(lambda: not pool._places)

    asyncio.run(run())


def test_what_work_raises_is_its_callers(pool):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run("a", lambda: 1 // 0))
