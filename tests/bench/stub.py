"""A server that makes tokens up, at a pace of its own: in the test's process, or in one of its own for what is to be quick.

python -m tests.bench.stub --gap 0.01
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stub:
    """Answers every POST with as many events as max_tokens says.

    Args:
      first_s: until the first event; gap_s: between events; chunked: else the end of the connection ends the answer.
      crowd: no answer begins before so many have come.
      wrong: a status and a body in place of an answer, for whom it names.
      broken_after: events after which the connection breaks, None for never.
      heads, heard: of each POST.
    """

    first_s: float = 0.0
    gap_s: float = 0.0
    chunked: bool = True
    crowd: int = 1
    wrong: Callable[[dict], tuple[int, str] | None] = lambda body: None
    broken_after: int | None = None
    models: tuple[str, ...] = ("m",)
    heads: list[bytes] = field(default_factory=list)
    heard: list[dict] = field(default_factory=list)

    async def start(self, port: int = 0) -> tuple[asyncio.Server, str]:
        """The server, and the URL of its API."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=4096)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    def framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def event(self, **event: object) -> bytes:
        return self.framed(b"data: " + json.dumps({"id": "1", **event}).encode() + b"\n\n")

    def token(self, body: dict, finish: str | None = None) -> bytes:
        shown = {"delta": {"content": "x"}} if "messages" in body else {"text": "x"}
        return self.event(choices=[{"index": 0, **shown, "finish_reason": finish}])


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub):
        self._stub, self._loop = stub, asyncio.get_running_loop()
        self._data = b""
        self._body: dict = {}
        self._sent, self._due_s = 0, 0.0

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        if head.startswith(b"GET"):
            self._whole(200, json.dumps({"data": [{"id": name} for name in self._stub.models]}))
            return
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        if len(rest) == length:
            self._stub.heads.append(head)
            self._answer(json.loads(rest))

    def _answer(self, body: dict) -> None:
        self._body = body
        self._stub.heard.append(body)
        refusal = self._stub.wrong(body)
        if refusal is not None:
            self._whole(*refusal)
            return
        framing = b"Transfer-Encoding: chunked\r\n" if self._stub.chunked else b""
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
        self._token = self._stub.token(body)
        self._due_s = self._loop.time() + self._stub.first_s
        self._loop.call_at(self._due_s, self._next)

    def _next(self) -> None:
        if len(self._stub.heard) < self._stub.crowd:
            self._loop.call_later(0.01, self._next)
            return
        if self._sent == self._stub.broken_after:
            self._transport.abort()
            return
        self._sent += 1
        self._due_s += self._stub.gap_s
        if self._sent < self._body["max_tokens"]:
            self._transport.write(self._token)
            self._loop.call_at(self._due_s, self._next)
            return
        asked = self._body.get("prompt", self._body.get("messages"))
        usage = {"prompt_tokens": len(asked), "completion_tokens": self._sent}
        last = self._stub.token(self._body, "length") + self._stub.event(choices=[], usage=usage) + self._stub.framed(b"data: [DONE]\n\n")
        self._transport.write(last + (b"0\r\n\r\n" if self._stub.chunked else b""))
        self._transport.close()

    def _whole(self, status: int, body: str) -> None:
        self._transport.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        self._transport.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("first", "gap"):
        parser.add_argument(f"--{name}", type=float, default=0.0, help="seconds")
    args = parser.parse_args()
    server, url = await Stub(first_s=args.first, gap_s=args.gap).start()
    print(url, flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
