"""A server with the flags of `muxjax serve` that makes tokens up, and fails as it is told.

python -m tests.bench.backends.server m=folder --port 8000 --fault deaf
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("", "ends", "mute", "slow", "deaf", "parent", "dies", "short", "textless", "wrong-words", "refuses", "formless")
"""Exits at once; is never ready, or not soon; declines SIGTERM; leaves a child; is killed by the second stream; answers too little, without
text, other words, with an error, or in another form."""
SLOW_S = 1.0
DEAF = "no, thank you"


class Handler(BaseHTTPRequestHandler):
    fault, model, streams, ready_s = "", "", 0, 0.0

    def do_GET(self) -> None:
        ready = self.fault != "mute" and time.monotonic() >= self.ready_s
        self._send(200 if ready else 503, b"", "text/plain")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.fault == "refuses":
            self._send(400, b'{"error": {"message": "no tokens, please"}}', "application/json")
        elif body.get("stream"):
            self._stream(body)
        else:
            self._send(200, json.dumps(self._whole(body)).encode(), "application/json")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _whole(self, body: dict) -> object:
        made = body["max_tokens"] - (self.fault == "short")
        choice = {"index": 0, "text": f"{self.fault == 'wrong-words'} {self.model} {sum(body['prompt'])}"}
        if self.fault == "textless":
            del choice["text"]
        if self.fault == "formless":
            return ["what", "is", "this"]
        return {"choices": [choice], "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": made}}

    def _stream(self, body: dict) -> None:
        Handler.streams += 1
        if self.fault == "dies" and Handler.streams == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        event = b'data: {"choices": [{"index": 0, "text": "x", "finish_reason": null}]}\n\n' * (body["max_tokens"] - 1)
        event += b'data: {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}\n\n'
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": body["max_tokens"]}
        self._send(200, event + b'data: {"choices": [], "usage": %b}\n\ndata: [DONE]\n\n' % json.dumps(usage).encode(), "text/event-stream")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 512


def main(fault: str = "") -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int)
    parser.add_argument("--fault", choices=FAULTS, default=fault)
    args, others = parser.parse_known_args()
    print("told", json.dumps(others), "keys", [name for name in os.environ if name.endswith("API_KEY")], flush=True)
    if args.fault == "ends":
        sys.exit("no luck today")
    if args.fault == "deaf":
        signal.signal(signal.SIGTERM, lambda *_: print(DEAF, flush=True))
    if args.fault == "parent":
        print("child", subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    Handler.fault, Handler.model = args.fault, args.model.partition("=")[0]
    Handler.ready_s = time.monotonic() + SLOW_S * (args.fault == "slow")
    Server(("127.0.0.1", args.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
