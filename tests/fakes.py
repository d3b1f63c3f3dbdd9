"""Stand-ins that keep their interfaces' promises in the simplest way."""

import math
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.job_records import JobRecord, OnJob
from muxjax.engine.options import ModelOptions
from muxjax.engine.stats import ONLY_UNIT, ModelStats, UnitStats
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec
from muxjax.types import Finish, Logprobs, Output, Request


class FakeEngine:
    """An engine whose models repeat their prompts token by token, a turn every so often.

    Args:
      reply: the k-th token of a request's answer.
      turn_s: of one token for every request.
      most_tokens: a longer request is refused, as one that never fits.
      cached_tokens: of every prompt.
      crowd: no turn is made while fewer requests are there, so that those go in step, however late one comes.
    """

    def __init__(
        self,
        models: Sequence[str],
        *,
        reply: Callable[[Request, int], int] = lambda request, k: request.prompt[k % len(request.prompt)],
        turn_s: float = 0.001,
        most_tokens: int = 10**9,
        cached_tokens: int = 0,
        crowd: int = 0,
    ):
        self.healthy = True
        self.submitted: list[Request] = []
        self.prepared: list[str] = []
        self.cancelled: list[str] = []
        self._models = tuple(models)
        self._reply, self._turn_s, self._most_tokens = reply, turn_s, most_tokens
        self._cached_tokens, self._crowd = cached_tokens, crowd
        self._live: dict[str, tuple[Request, int]] = {}
        self._aborted: list[str] = []
        self._lock = threading.Condition()
        self._draining = self._stopping = False
        self._thread: threading.Thread | None = None
        self._on_job: OnJob = lambda record: None

    @property
    def live(self) -> int:
        """Requests that hold blocks."""
        return len(self._live)

    def prepare(self, request: Request) -> None:
        self.prepared.append(request.id)

    def submit(self, request: Request, *, prepared: bool = False) -> None:
        if self._draining:
            raise RequestError("the engine is draining", status=503)
        if request.most_tokens > self._most_tokens:
            raise RequestError(f"the request needs {request.most_tokens} tokens of cache, there are {self._most_tokens}")
        with self._lock:
            self.submitted.append(request)
            self._live[request.id] = request, 0

    def cancel(self, request_id: str) -> None:
        with self._lock:
            self.cancelled.append(request_id)
            if self._live.pop(request_id, None):
                self._aborted.append(request_id)

    def watch(self, on_job: OnJob) -> None:
        self._on_job = on_job

    def start(self, on_outputs: Callable[[list[Output]], None]) -> None:
        self._thread = threading.Thread(target=self._loop, args=(on_outputs,), daemon=True)
        self._thread.start()

    def drain(self, timeout_s: float) -> bool:
        self._draining = True
        with self._lock:
            return self._lock.wait_for(lambda: not self._live, timeout_s)

    def stop(self) -> None:
        self._draining = self._stopping = True
        if self._thread:
            self._thread.join()

    def die(self) -> None:
        """What a defect in the engine's thread does."""
        self.healthy = False
        self.stop()

    def unit_stats(self) -> Mapping[str, UnitStats]:
        return {ONLY_UNIT: self.stats()}

    def states(self) -> Mapping[str, str]:
        return {model.name: model.status.value for model in self.stats().models}

    def stats(self) -> UnitStats:
        with self._lock:
            held = Counter(request.model for request, _ in self._live.values())
        return UnitStats(
            total_blocks=1000,
            free_blocks=1000 - held.total(),
            block_bytes=16384,
            models=tuple(self._model_stats(name, held[name]) for name in self._models),
        )

    @staticmethod
    def _model_stats(name: str, held: int) -> ModelStats:
        steps = ("prefill_steps", "decode_steps", "mixed_steps", "prefill_tokens", "decode_tokens")
        prefixes = ("cached_blocks", "evicted_blocks", "prefix_queries", "prefix_hits")
        counts: dict[str, Any] = dict.fromkeys(("waiting", "preemptions", *steps, *prefixes), 0)
        shape: dict[str, Any] = {"max_model_len": 100, "tokens_per_block": 16, "column_blocks": 1}
        return ModelStats(name=name, running=held, held_blocks=held, peak_blocks=held, quota_blocks=100, **counts, **shape)

    def _loop(self, on_outputs: Callable[[list[Output]], None]) -> None:
        while not self._stopping:
            time.sleep(self._turn_s)
            with self._lock:
                outputs = self._turn()
                self._lock.notify_all()
            if outputs:
                on_outputs(outputs)
        if self.healthy:
            on_outputs([Output(request_id, None, Finish.ABORT, time.monotonic()) for request_id in self._live])
        with self._lock:
            self._live.clear()
            self._lock.notify_all()

    def _turn(self) -> list[Output]:
        now_s = time.monotonic()
        outputs = [Output(request_id, None, Finish.ABORT, now_s) for request_id in self._aborted]
        self._aborted.clear()
        if len(self._live) < self._crowd:
            return outputs
        for request, count in list(self._live.values()):
            self._on_job(_job(request, count, now_s - self._turn_s, now_s))
            token = self._reply(request, count)
            finish = _finish(request, token, count + 1)
            most = request.sampling.logprobs
            output = Output(request.id, token, finish, now_s, logprobs=None if most is None else fake_logprobs(token, most))
            outputs.append(output if count else self._first(request, output))
            self._live[request.id] = request, count + 1
            if finish:
                del self._live[request.id]
        return outputs

    def _first(self, request: Request, output: Output) -> Output:
        """The first output of a request, with what only that one has."""
        most = request.sampling.prompt_logprobs
        logprobs = None if most is None else tuple(fake_logprobs(token, most) for token in request.prompt[1:])
        hidden = fake_hidden(request.prompt) if request.sampling.pooling else None
        return output._replace(prompt_logprobs=logprobs, cached_tokens=self._cached_tokens, hidden=hidden)


def fake_hidden(prompt: Sequence[int], width: int = 8) -> bytes:
    """A hidden state that tells its prompt."""
    return struct.pack(f"<{width}f", *(prompt[0] + len(prompt) * place for place in range(width)))


class FakeLifecycle:
    """A lifecycle whose models go to sleep and wake at once; others do not come, and none goes."""

    def __init__(self, models: Sequence[str]):
        self._states = dict.fromkeys(models, "ready")

    def states(self) -> Mapping[str, str]:
        return dict(self._states)

    def programs(self) -> Mapping[str, ProgramProgress]:
        return dict.fromkeys(self._states, ProgramProgress(ready=2, all=2))

    def load(self, options: ModelOptions) -> ModelSpec:
        raise NotImplementedError

    def remove(self, name: str, *, timeout_s: float) -> None:
        raise NotImplementedError

    def sleep(self, name: str, *, timeout_s: float) -> None:
        self._states[name] = "asleep"

    def wake(self, name: str) -> None:
        self._states[name] = "ready"


def fake_logprobs(token: int, most: int) -> Logprobs:
    """Tokens are the less likely the greater they are; those from 256 on are impossible."""
    return Logprobs(token, _logprob(token), tuple((likely, _logprob(likely)) for likely in range(most)))


def _logprob(token: int) -> float:
    return -token / 8 if token < 256 else -math.inf


def _job(request: Request, count: int, start_s: float, end_s: float) -> JobRecord:
    """Every request has a job of its own, in every turn."""
    phase, tokens, prefills = ("decode", 1, ()) if count else ("prefill", len(request.prompt), (request.id,))
    return JobRecord(model=request.model, phase=phase, start_s=start_s, end_s=end_s, rows=1, tokens=tokens, prefills=prefills)


def _finish(request: Request, token: int, count: int) -> Finish | None:
    if token in request.sampling.stop_token_ids:
        return Finish.STOP
    return Finish.LENGTH if count >= request.sampling.max_tokens else None
