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
      wrong: a status and a body in place of an answer, for whom it names.
      broken_after: events after which the connection breaks, None for never.
    """

    first_s: float = 0.0
    gap_s: float = 0.0
    chunked: bool = True
    wrong: Callable[[dict], tuple[int, str] | None] = lambda body: None
    broken_after: int | None = None
    models: tuple[str, ...] = ("m",)
    heard: list[dict] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    async def start(self, port: int = 0) -> tuple[asyncio.Server, str]:
        """The server, and the URL of its API."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=4096)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                self._whole(writer, 200, json.dumps({"data": [{"id": name} for name in self.models]}))
                return
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            body = json.loads(await reader.readexactly(length))
            self.heads.append(head)
            self.heard.append(body)
            refusal = self.wrong(body)
            if refusal is not None:
                self._whole(writer, *refusal)
            else:
                await self._stream(writer, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter, body: dict) -> None:
        framing = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
        tokens = body["max_tokens"]
        at_s = asyncio.get_running_loop().time() + self.first_s
        for k in range(tokens):
            await asyncio.sleep(max(0.0, at_s - asyncio.get_running_loop().time()))
            at_s += self.gap_s
            if k == self.broken_after:
                writer.transport.abort()
                return
            shown = {"delta": {"content": "x"}} if "messages" in body else {"text": "x"}
            self._event(writer, {"id": "1", "choices": [{"index": 0, **shown, "finish_reason": "length" if k == tokens - 1 else None}]})
        asked = body.get("prompt", body.get("messages"))
        self._event(writer, {"id": "1", "choices": [], "usage": {"prompt_tokens": len(asked), "completion_tokens": tokens}})
        self._write(writer, b"data: [DONE]\n\n")
        if self.chunked:
            writer.write(b"0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, event: dict) -> None:
        self._write(writer, b"data: " + json.dumps(event).encode() + b"\n\n")

    def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    @staticmethod
    def _whole(writer: asyncio.StreamWriter, status: int, body: str) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


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
