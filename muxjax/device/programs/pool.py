"""Processes that compile side by side, and that can be stopped for a while."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from muxjax.device.programs.sources import Source
from muxjax.device.programs.worker import Setup, send


class CompileWorkers:
    """So many processes, started as they are needed; one that dies is replaced, and costs the program that it was at. They end with the
    threads here, and so with this process, however it ends."""

    def __init__(self, setup: Setup, count: int):
        self._setup = setup
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = self._paused = False
        self._lock = threading.Lock()  # of what is paused, and who is there to be
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="muxjax-compile")
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)

    def compile(self, source: Source, places: tuple[int, ...]) -> Future[str]:
        """Has the program for some of the unit's devices compiled into the store; in the end, what went wrong, or ""."""
        return self._threads.submit(self._ask, source, places)

    def pause(self) -> None:
        """Stops all processes where they are, until `resume`."""
        self._signal(signal.SIGSTOP, paused=True)

    def resume(self) -> None:
        """Lets them go on."""
        self._signal(signal.SIGCONT, paused=False)

    def retire(self) -> None:
        """Ends the processes that have nothing to do; they are started again when there is something."""
        idle: list[subprocess.Popen[bytes] | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for process in idle:
            if process:
                self._end(process)
            self._idle.put(None)

    def close(self) -> None:
        """Gives up what is not done yet, and ends the processes, whatever they are at."""
        self._closed = True
        for process in tuple(self._processes):
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in tuple(self._processes):
            self._end(process)

    def _ask(self, source: Source, places: tuple[int, ...]) -> str:
        if self._closed:
            return "the compiling processes have ended"
        process = self._idle.get() or self._start()
        try:
            assert process.stdin and process.stdout
            send(process.stdin, (source, places))
            answer = process.stdout.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            self._end(process)
            self._idle.put(None)
            return "the compiling process has ended"
        self._idle.put(process)
        return answer.decode().strip()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "muxjax.device.programs.compile_process"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + self._setup.niceness)  # imports JAX by it
        with self._lock:
            self._processes.add(process)
        assert process.stdin and process.stdout
        process.stdout.readline()  # stopped any earlier, it could outlive this process
        with self._lock:
            if self._paused:
                process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(OSError):  # it has ended: who asks it finds that out
            send(process.stdin, self._setup)
        return process

    def _signal(self, number: int, *, paused: bool) -> None:
        with self._lock:
            self._paused = paused
            for process in self._processes:
                process.send_signal(number)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._processes.discard(process)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
