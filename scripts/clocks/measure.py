"""What the others see of an attack: stopwatches beside the requests of it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from muxjax.bench.stopwatch import connection, quantile, watched
from scripts.clocks.attacks import Attack, Post
from scripts.clocks.server import ATTACKER_KEY, NEIGHBOUR, NEIGHBOUR_KEY
from scripts.served import Served

STREAM = {"model": NEIGHBOUR, "prompt": "you", "max_tokens": 100, "ignore_eos": True}
BEFORE_S = 0.3
"""For which the others are alone."""


class Wait(NamedTuple):
    """Seconds of many waits."""

    p50_s: float
    max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One attack.

    Args:
      statuses: of all answers.
      told: the beginning of one.
      body_bytes, answer_bytes: of all that were on their way at once.
      grown_bytes: most that the server's memory was above what it was before.
    """

    attack: str
    seconds: float
    requests: int
    statuses: tuple[int, ...]
    told: str
    body_bytes: int
    answer_bytes: int
    health: Wait
    token: Wait
    grown_bytes: int

    def values(self) -> dict[str, Any]:
        """For a run's record."""
        return {**asdict(self), "health": self.health._asdict(), "token": self.token._asdict()}


class _Answer(NamedTuple):
    status: int
    size: int
    beginning: bytes


def measure(server: Served, attack: Attack, *, body_bytes: int, seconds: float = 0.0) -> Measurement:
    """The attack once, and again and again for so many seconds.

    Args:
      body_bytes: that the server takes.
    Raises:
      ConnectionError: a stopwatch had no proper answer.
    """
    posts, began_s = attack.posts(body_bytes), time.monotonic()
    with watched(server.address, process=server.process.pid, stream=STREAM, key=NEIGHBOUR_KEY) as waits:
        time.sleep(BEFORE_S if posts else BEFORE_S + seconds)
        answers = _sent(server.address, posts, seconds)
    return Measurement(
        attack=attack.name,
        seconds=time.monotonic() - began_s,
        requests=sum(map(len, answers)),
        statuses=tuple(sorted({answer.status for each in answers for answer in each})),
        told=answers[0][0].beginning.decode(errors="replace") if answers else "",
        body_bytes=sum(len(post.body) for post in posts),
        answer_bytes=sum(max(answer.size for answer in each) for each in answers),
        health=_wait(waits.health_s),
        token=_wait(waits.token_s),
        grown_bytes=max(waits.memory_bytes) - waits.memory_bytes[0],
    )


def _wait(seconds: Sequence[float]) -> Wait:
    return Wait(quantile(seconds, 50), quantile(seconds, 100))


def _sent(address: str, posts: Sequence[Post], seconds: float) -> list[list[_Answer]]:
    """Answers to each of the requests, which are sent at once, each again when it is answered until the time is over."""
    answers: list[list[_Answer]] = [[] for _ in posts]
    threads = [threading.Thread(target=_send, args=(address, *each, seconds)) for each in zip(posts, answers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _send(address: str, post: Post, answers: list[_Answer], seconds: float) -> None:
    until_s = time.monotonic() + seconds
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ATTACKER_KEY}"}
    while not answers or time.monotonic() < until_s:
        client = connection(address)
        try:
            client.request("POST", post.path, post.body, headers)
            response = client.getresponse()
            beginning = response.read(300)
            size = len(beginning)
            while data := response.read(2**20):
                size += len(data)
            answers.append(_Answer(response.status, size, beginning))
        except OSError as error:  # refused and closed before all of it was sent
            answers.append(_Answer(0, 0, repr(error).encode()))
        finally:
            client.close()
