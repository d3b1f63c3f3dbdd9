"""Processes that compile side by side."""

import contextlib
import logging
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

from muxjax.device.programs.sources import Source
from muxjax.device.programs.worker import Setup, send

_log = logging.getLogger(__name__)


class CompileWorkers:
    """So many `worker` processes, started as they are needed; one that dies is replaced, and costs the program that it was at."""

    def __init__(self, setup: Setup, count: int):
        self._setup = setup
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="muxjax-compile")
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)

    def compile(self, source: Source) -> Future[str]:
        """Has a program compiled into the store; in the end, what went wrong, or ""."""
        return self._threads.submit(self._ask, source)

    def close(self) -> None:
        """Gives up what is not done yet, and ends the processes, whatever they are at."""
        self._closed = True
        for process in tuple(self._processes):
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in tuple(self._processes):
            self._end(process)

    def _ask(self, source: Source) -> str:
        if self._closed:
            return "the compiling processes have ended"
        process = self._idle.get() or self._start()
        try:
            assert process.stdin and process.stdout
            send(process.stdin, source)
            answer = process.stdout.readline()
        except OSError as error:
            answer, trouble = b"", str(error)
        else:
            trouble = "it ended"
        if not answer.endswith(b"\n"):
            self._end(process)
            self._idle.put(None)
            return f"the compiling process failed: {trouble}"
        self._idle.put(process)
        return answer.decode().strip()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "muxjax.device.programs.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._processes.add(process)
        assert process.stdin
        send(process.stdin, self._setup)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.discard(process)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
