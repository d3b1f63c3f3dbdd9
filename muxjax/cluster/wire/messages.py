"""Messages between the front and a worker: values, in MessagePack, each with the name of its kind.

No clock crosses the border, since hosts have clocks of their own: a time counts only against `sent_s` of its message, as an age.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from muxjax.cache.layout import CacheLayout
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.job_records import JobRecord
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.stats import ONLY_UNIT, Status, UnitStats
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec
from muxjax.types import Output, Request

PROTOCOL = 4
"""Number of this set of messages: a front and a worker of different ones do not talk."""


class Message(msgspec.Struct, tag=True, array_like=True):
    """One message; see the two unions below for who sends which."""


class Hello(Message):
    """First from the front: who it is, and what it wants the worker to serve."""

    protocol: int
    version: str
    options: UnitOptions


class Submit(Message):
    """A request, with its arrival on the clock of `sent_s`."""

    sent_s: float
    request: Request


class Cancel(Message):
    """A request is to end early; its last output comes all the same."""

    request_id: str


class Load(Message):
    """A model is to be served as well; takes long, and is answered by `Changed`."""

    call: int
    options: ModelOptions


class Remove(Message):
    """A model's requests get so long to end; then all it has is freed. Answered by `Changed`."""

    call: int
    model: str
    timeout_s: float


class Sleep(Message):
    """A model's requests get so long to end; then its weights go to the host's memory. Answered by `Changed`."""

    call: int
    model: str
    timeout_s: float


class Wake(Message):
    """A model's weights come back. Answered by `Changed`."""

    call: int
    model: str


class Stop(Message):
    """The worker ends every request, and then itself."""


class Welcome(Message):
    """First from the worker. A front that asked for other options than those it `serves` had better stop it and start another."""

    serves: UnitOptions


class Report(Message):
    """A line about the start, for people."""

    line: str


class ModelFact(msgspec.Struct, array_like=True):
    """A model as requests meet it; see `request_checker.ModelFacts`.

    Args:
      layout: of one device's share of the heads.
      slots: most sequences at a time; max_tokens: of one; vocab: tokens that requests may name; pools: it makes embeddings.
      max_loras: places for adapters.
    """

    name: str
    layout: CacheLayout
    slots: int
    max_tokens: int
    vocab: int
    pools: bool
    max_loras: int
    status: Status
    trouble: str


class Facts(Message):
    """The worker takes requests, by these facts; sent again whenever one of them changes.

    Args:
      device: JAX's name of what it runs on.
    """

    device: str
    total_blocks: int
    models: tuple[ModelFact, ...]


class Turn(Message):
    """All outputs of one turn of the loop, and the jobs that have ended since the last, their times on the clock of `sent_s`."""

    sent_s: float
    outputs: list[Output]
    jobs: list[JobRecord]


class Refused(Message):
    """A request that the front's facts let pass cannot be served here."""

    request_id: str
    message: str
    status: int


class Changed(Message):
    """A change of the models is done, or failed for that reason; `spec` is that of a model that was loaded."""

    call: int
    trouble: str = ""
    spec: ModelSpec | None = None


class Pulse(Message):
    """Sign of life, a few times a second.

    Args:
      healthy: the engine has neither died nor got stuck.
      states: of each model in a word, also of one that only comes.
    """

    healthy: bool
    stats: UnitStats | None
    programs: Mapping[str, ProgramProgress]
    states: Mapping[str, str]


class Broken(Message):
    """The worker cannot serve what it was asked to, and ends. With `bad_input` it never could: another start would fail alike."""

    trouble: str
    bad_input: bool


FromFront = Hello | Submit | Cancel | Load | Remove | Sleep | Wake | Stop
FromWorker = Welcome | Report | Facts | Turn | Refused | Changed | Pulse | Broken


def _plain(value: object) -> object:
    """What MessagePack has no form for."""
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"a message cannot hold {type(value).__name__}")


def _typed(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"a message cannot hold {kind.__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
encode: Callable[[Message], bytes] = _encoder.encode
from_front: Callable[[bytes], FromFront] = msgspec.msgpack.Decoder(FromFront, dec_hook=_typed).decode
from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker, dec_hook=_typed).decode


def refusal(request_id: str, error: RequestError) -> Refused:
    """The message of an error."""
    return Refused(request_id, str(error), error.status)


def arrived(message: Submit, now_s: float) -> Request:
    """The request with its arrival on the clock of whoever takes it, which says now_s."""
    request = message.request
    return replace(request, arrival_s=request.arrival_s + now_s - message.sent_s)


def outputs_of(turn: Turn, now_s: float) -> list[Output]:
    """The outputs on the clock of whoever takes them, which says now_s."""
    shift_s = now_s - turn.sent_s
    return [
        Output(name, token, finish, at_s + shift_s, own, prompt, cached, hidden)
        for name, token, finish, at_s, own, prompt, cached, hidden in turn.outputs
    ]


def jobs_of(turn: Turn, now_s: float, unit: str = ONLY_UNIT) -> list[JobRecord]:
    """The jobs, likewise, as those of a unit of that name."""
    shift_s = now_s - turn.sent_s
    return [replace(job, start_s=job.start_s + shift_s, end_s=job.end_s + shift_s, unit=unit) for job in turn.jobs]
