"""Pictures of a unit that one can check by eye, for tests of policies."""

from dataclasses import replace

from muxjax.scheduler.view import Chunk, Job, ModelView, Pending, Running, View

IDLE = ModelView(
    name="a",
    ready=True,
    in_flight=0,
    pending=(),
    waiting=0,
    free_slots=4,
    decoding=0,
    growing=0,
    column_blocks=10,
    held_blocks=0,
    quota_blocks=500,
    floor_blocks=100,
    running=0,
    oldest_s=float("inf"),
    youngest=None,
    last_prefill=0,
    last_decode=0,
)


def model(name: str, **changes) -> ModelView:
    return replace(IDLE, name=name, **changes)


def decoding(name: str, rows: int, **changes) -> ModelView:
    """A model with so many sequences that can all go on."""
    changes = {"running": rows, "held_blocks": 10 * rows, "oldest_s": 1.0, "youngest": running(name, 1.0), **changes}
    return model(name, decoding=rows, **changes)


def stuck(name: str, rows: int, arrival_s: float, **changes) -> ModelView:
    """A model whose sequences all wait for a column."""
    changes = {"held_blocks": 10 * rows, "oldest_s": 0.0, "youngest": running(name, arrival_s), **changes}
    return model(name, growing=rows, running=rows, **changes)


def running(name: str, arrival_s: float, *, idle: bool = True) -> Running:
    return Running(request_id=f"{name}-young", arrival_s=arrival_s, blocks=10, idle=idle)


def waits(name: str, *, tokens: int = 8, blocks: int = 20, arrival_s: float = 2.0, **changes) -> ModelView:
    """A model with one request to admit."""
    request = Pending(request_id=f"{name}-new", arrival_s=arrival_s, tokens=tokens, blocks=blocks)
    return model(name, pending=(request,), waiting=1, oldest_s=arrival_s, **changes)


def view(*models: ModelView, free: int = 1000, **changes) -> View:
    picture = View(
        now_s=10.0,
        quota_age_s=0.0,
        free_blocks=free,
        total_blocks=1000,
        token_budget=64,
        max_rows=4,
        models=models,
    )
    return replace(picture, **changes)


def prefill_of(name: str, tokens: int = 8) -> Job:
    return Job(model=name, chunks=(Chunk(request_id=f"{name}-new", tokens=tokens),))


def decode_of(name: str, *, grow: int = 0) -> Job:
    return Job(model=name, decode=True, grow=grow)


def on_lanes(*models: ModelView, **changes) -> View:
    """Each model on a lane of its own, and steps of up to 2,048 prompt tokens."""
    return view(*(replace(each, lane=lane) for lane, each in enumerate(models)), token_budget=2048, **changes)
