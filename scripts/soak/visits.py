"""What the clients of the soak do, and what each of them sees."""

import asyncio
import json
import random
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from muxjax.demo.run import shipped

MODELS = {"farm": 120, "forest": 120, "long": 1000}
"""Of which each takes a little more than so many tokens."""
GUEST = shipped()[2]
"""A model that comes and goes."""
ADMIN_KEY = secrets.token_hex(16)
REFUSALS = (429, 503)
BURST = 60
_MOST_FAULTS = 50
_VISIT_S = 120.0


class Fault(Exception):
    """The server did what it must not."""


@dataclass(slots=True)
class Ledger:
    """What all clients counted.

    Args:
      seen: answers that a client saw to their end; n of them in a request for n.
      unseen: those that a client asked for and did not wait for.
    """

    seen: int = 0
    unseen: int = 0
    visits: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """For a run's record."""
        kinds = {name: {"visits": count, "refused": self.refused[name]} for name, count in self.visits.items()}
        return {"seen": self.seen, "unseen": self.unseen, "kinds": kinds, "faults": self.faults}


class Site:
    """The server as one client has it, who is after one thing at a time."""

    def __init__(self, address: str, ledger: Ledger, draw: random.Random):
        self.address, self.ledger, self.draw = address, ledger, draw
        self.kind = ""

    async def visit(self, kind: str, visit: "Visit") -> None:
        """Counts it, and keeps what went wrong."""
        self.kind = kind
        self.ledger.visits[kind] += 1
        try:
            async with asyncio.timeout(_VISIT_S), self._session() as session:
                await visit(self, session)
        except (Fault, TimeoutError, aiohttp.ClientError, OSError) as error:
            if len(self.ledger.faults) < _MOST_FAULTS:
                self.ledger.faults.append(f"{kind}: {type(error).__name__} {error}")

    def body(self, *, most: int = 16, **more: Any) -> dict[str, Any]:
        """Of a completion of a random prompt."""
        model = self.draw.choice(list(MODELS))
        tokens = self.draw.randint(1, min(most, MODELS[model] // 2))
        prompt = [self.draw.randrange(5, 200) for _ in range(self.draw.randint(1, MODELS[model] - tokens))]
        return {"model": model, "prompt": prompt, "max_tokens": tokens, "n": self.draw.choice((1, 1, 1, 3)), **more}

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(f"{self.address}/v1/", connector=aiohttp.TCPConnector(limit=0, force_close=True))

    async def accepted(self, response: aiohttp.ClientResponse) -> bool:
        """False for a refusal, which must say when to come again."""
        if response.status == 200:
            return True
        if response.status not in REFUSALS or "Retry-After" not in response.headers:
            raise Fault(f"{response.status} {(await response.text())[:300]}")
        self.ledger.refused[self.kind] += 1
        return False


Visit = Callable[[Site, aiohttp.ClientSession], Awaitable[None]]


async def short(site: Site, session: aiohttp.ClientSession) -> None:
    """One small answer, whole."""
    await _whole(site, session, site.body(most=8))


async def long(site: Site, session: aiohttp.ClientSession) -> None:
    """A large one, whole."""
    await _whole(site, session, site.body(most=500, ignore_eos=True))


async def _whole(site: Site, session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
    async with session.post("completions", json=body) as response:
        if await site.accepted(response):
            answer = await response.json()
            check_choices(body, [choice["finish_reason"] for choice in answer["choices"]], answer["usage"])
            site.ledger.seen += body["n"]


async def stream(site: Site, session: aiohttp.ClientSession) -> None:
    """A streamed answer, to its end."""
    body = site.body(most=200, stream=True, stream_options={"include_usage": True}, logprobs=site.draw.choice((None, 2)))
    async with session.post("completions", json=body) as response:
        if not await site.accepted(response):
            return
        ends, usage = [], {}
        async for event in _events(response):
            ends += [choice["finish_reason"] for choice in event["choices"] if choice["finish_reason"]]
            usage = event["usage"] or usage
        check_choices(body, ends, usage)
        site.ledger.seen += body["n"]


def check_choices(body: dict[str, Any], ends: list[str], usage: dict[str, int]) -> None:
    if len(ends) != body["n"] or not set(ends) <= {"stop", "length"}:
        raise Fault(f"{body['n']} choices were asked for, their ends are {ends}")
    made, most = usage["completion_tokens"], body["n"] * body["max_tokens"]
    if not body["n"] <= made <= most or (body.get("ignore_eos") and made != most):
        raise Fault(f"{made} tokens where {most} were asked for")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Those before the one that ends the stream, which must be the last."""
    done = False
    async for line in response.content:
        if done and line.strip():
            raise Fault(f"after the end of the stream: {line[:100]!r}")
        done = done or line.strip() == b"data: [DONE]"
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise Fault(f"in a stream: {event['error']['message']}")
            yield event
    if not done:
        raise Fault("a stream without an end")


async def leave(site: Site, session: aiohttp.ClientSession) -> None:
    """Begins a stream and goes after a few events."""
    body = site.body(most=500, stream=True, ignore_eos=True)
    async with session.post("completions", json=body) as response:
        if await site.accepted(response):
            site.ledger.unseen += body["n"]
            for _ in range(site.draw.randint(0, 8)):
                await response.content.readline()


async def hang_up(site: Site, session: aiohttp.ClientSession) -> None:
    """Goes before there is an answer."""
    body = site.body(most=500, ignore_eos=True)
    site.ledger.unseen += body["n"]
    try:
        async with asyncio.timeout(site.draw.uniform(0, 0.05)), session.post("completions", json=body):
            pass
    except TimeoutError:
        pass


async def burst(site: Site, session: aiohttp.ClientSession) -> None:
    """More at once than may wait."""
    await asyncio.gather(*(_whole(site, session, site.body(most=8)) for _ in range(BURST)))


async def nonsense(site: Site, session: aiohttp.ClientSession) -> None:
    """What no server can answer; it must say so, and shortly."""
    path, data = site.draw.choice(_NONSENSE)
    async with session.post(path, data=data, headers={"Content-Type": "application/json"}) as response:
        text = await response.text()
        if not 400 <= response.status < 500 or "error" not in json.loads(text) or len(text) > 2000:
            raise Fault(f"{data[:100]!r} to {path}: {response.status} {text[:300]}")


_NONSENSE = [
    ("completions", b"{"),
    ("completions", b"[" * 100_000),
    ("completions", b'{"model": "none", "prompt": "x"}'),
    ("completions", b'{"model": "farm", "prompt": [-1]}'),
    ("completions", b'{"model": "farm", "prompt": "x", "temperature": 1e999}'),
    ("completions", b'{"model": "farm", "prompt": "x", "n": 1000000}'),
    ("completions", b'{"model": "farm", "prompt": "\xff"}'),
    ("completions", b'{"model": "farm", "prompt": "' + b"x" * 2**18 + b'"}'),
    ("chat/completions", b'{"model": "farm", "messages": [{"role": "nobody", "content": {}}]}'),
    ("chat/completions", b'{"model": "farm"}'),
    ("nowhere", b"{}"),
]


async def crawl(site: Site, session: aiohttp.ClientSession) -> None:
    """Reads next to nothing of a large stream, so that the server must cut it off; then goes."""
    body = {"model": "long", "prompt": [7] * 20, "max_tokens": 800, "n": 4, "logprobs": 20, "ignore_eos": True, "stream": True}
    site.ledger.unseen += body["n"]
    where, content = urlsplit(site.address), json.dumps(body).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_connect(connection, (where.hostname, where.port))
        head = f"POST /v1/completions HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        await loop.sock_sendall(connection, head.encode() + content)
        for _ in range(site.draw.randint(2, 10)):
            await asyncio.sleep(1)
            await loop.sock_recv(connection, 64)


async def come_and_go(site: Site, session: aiohttp.ClientSession) -> None:
    """The operator adds a model, has it sleep and wake, and removes it, while all others go on; it answers whenever it is there."""
    asked = {"model": "guest", "prompt": [7, 8, 9], "max_tokens": 8, "n": 1}
    model = {"name": "guest", "path": str(GUEST), "max_num_seqs": 4}
    await _administer(session, "POST", "/admin/models", json=model)
    await _whole(site, session, asked)
    for step in ("sleep", "wake"):
        await _administer(session, "POST", f"/admin/models/guest/{step}")
    await _whole(site, session, asked)
    await _administer(session, "DELETE", "/admin/models/guest")


async def _administer(session: aiohttp.ClientSession, method: str, path: str, **more: Any) -> None:
    async with session.request(method, path, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, **more) as response:
        if response.status not in (200, 201):
            raise Fault(f"{method} {path}: {response.status} {(await response.text())[:300]}")


OPERATOR: tuple[str, Visit] = ("add a model, let it sleep, remove it", come_and_go)
VISITS: list[tuple[str, Visit]] = [
    *[("ask for a short answer", short)] * 6,
    *[("ask for a long answer", long)] * 2,
    *[("read a stream", stream)] * 5,
    *[("leave a stream", leave)] * 3,
    *[("hang up before an answer", hang_up)] * 3,
    *[("send nonsense", nonsense)] * 3,
    ("send 60 requests at once", burst),
    ("read too slowly", crawl),
]
"""By how often they are drawn."""
