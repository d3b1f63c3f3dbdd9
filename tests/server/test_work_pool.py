"""Work of clients is shared among tenants, whatever one of them sends."""

import asyncio
import gc
import threading
import weakref

import pytest

from muxjax.server.work_pool import WorkPool

WAIT_S = 60


class Held:
    """Work that goes on until it is let go."""

    def __init__(self):
        self.go, self.begun, self.lock = threading.Event(), 0, threading.Lock()

    def __call__(self) -> str:
        with self.lock:
            self.begun += 1
        assert self.go.wait(WAIT_S)
        return "done"


@pytest.fixture
def pool():
    made = WorkPool("test", threads=2, share=1)
    yield made
    made.close()


async def until(condition) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


def test_one_tenant_holds_no_more_than_its_share_and_another_is_served_at_once(pool):
    async def run() -> None:
        held = Held()
        many = [asyncio.create_task(pool.run("greedy", held)) for _ in range(20)]
        await until(lambda: held.begun)
        assert await asyncio.wait_for(pool.run("other", lambda: 7), WAIT_S) == 7
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
            await until(lambda: held.begun)  # nobody works for who leaves sooner
            leaving.cancel()
        assert await asyncio.wait_for(pool.run("other", lambda: 7), WAIT_S) == 7
        assert held.begun == 1
        held.go.set()
        assert await asyncio.wait_for(pool.run("greedy", lambda: 8), WAIT_S) == 8

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
        assert done.wait(WAIT_S)  # and the loop does nothing else
        await asyncio.gather(*pieces, last)

    asyncio.run(run())


def test_lines_take_turns(pool):
    async def run() -> None:
        one, other, order = Held(), Held(), []
        first = asyncio.create_task(pool.run("blocks one thread", one))
        second = asyncio.create_task(pool.run("blocks the other", other))
        await until(lambda: one.begun and other.begun)
        work = [("a", 0), ("a", 1), ("a", 2), ("b", 3)]
        waiting = [asyncio.create_task(pool.run(line, lambda n=n: order.append(n))) for line, n in work]
        await asyncio.sleep(0)
        one.go.set()  # two threads could begin in one order and be done in another
        await asyncio.gather(first, *waiting)
        assert order == [0, 3, 1, 2]
        other.go.set()
        await second

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
