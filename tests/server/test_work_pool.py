"""Work of clients is shared among tenants, whatever one of them sends."""

import asyncio
import gc
import threading
import weakref

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
        await until(lambda: not pool._lines)

    asyncio.run(run())


def test_what_work_raises_is_its_callers(pool):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run("a", lambda: 1 // 0))


def test_work_of_a_line_goes_on_while_the_event_loop_is_busy(pool):
    """It is the threads that take the next piece, however long the loop is away."""

    async def run() -> None:
        done = threading.Event()
        pieces = [asyncio.create_task(pool.run("a", lambda: None)) for _ in range(20)]
        last = asyncio.create_task(pool.run("a", done.set))
        await asyncio.sleep(0)  # all of them are asked for
        assert done.wait(30)  # and the loop does nothing else
        await asyncio.gather(*pieces, last)

    asyncio.run(run())


def test_lines_take_turns(pool):
    async def run() -> None:
        held, order = Held(), []
        first = asyncio.create_task(pool.run("blocks one thread", held))
        second = asyncio.create_task(pool.run("blocks the other", held))
        await until(lambda: held.begun == 2)
        work = [("a", 0), ("a", 1), ("a", 2), ("b", 3)]
        waiting = [asyncio.create_task(pool.run(line, lambda n=n: order.append(n))) for line, n in work]
        await asyncio.sleep(0)
        held.go.set()
        await asyncio.gather(first, second, *waiting)
        assert order.index(3) < order.index(1)

    asyncio.run(run())


def test_a_closed_pool_gives_up_what_has_not_begun():
    pool = WorkPool("test", threads=1, share=1)

    async def run() -> None:
        held = Held()
        begun, waits = asyncio.create_task(pool.run("a", held)), asyncio.create_task(pool.run("a", lambda: 1))
        await until(lambda: held.begun)
        pool.close()
        with pytest.raises(asyncio.CancelledError):
            await waits
        held.go.set()
        assert await begun == "done"

    asyncio.run(run())


def test_what_fails_when_nobody_waits_any_more_frees_what_it_held(pool):
    held = Held()
    kept: list[weakref.ref] = []

    def failing(body: Held) -> None:
        body()
        raise ValueError("it is wrong")

    async def run() -> None:
        body = Held()
        body.go = held.go
        kept.append(weakref.ref(body))
        task = asyncio.create_task(pool.run("client", lambda: failing(body)))
        await until(lambda: body.begun)
        task.cancel()
        await asyncio.wait([task])

    gc.disable()
    try:
        asyncio.run(run())
        held.go.set()
        asyncio.run(until(lambda: kept[0]() is None))
    finally:
        gc.enable()
