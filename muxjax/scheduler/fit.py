"""What fits: the jobs a model can do with the blocks there are, and whom to pre-empt when nothing does.

Every policy is built of these, and owes to them that no request waits for ever:

- *Growth comes before admission.* A request is admitted only into blocks that no growing sequence of the unit waits for, so that
  what a plan admits never changes what may grow in it.
- *A pre-emption buys a token.* It happens only when a model's sequences all wait for a column, so that the blocks it frees let
  one of them grow (or add up until they do, since the victim can only come back after them). Pre-empted requests keep their
  tokens and the number of tokens is bounded, so pre-emptions end.
- *Admission goes in turn.* The model whose turn it is keeps it while it waits for blocks, and nobody else is admitted. The others
  only run down then: in the end the arena is empty, and a request that was let in at the door fits into the empty arena.
- *The oldest is safe.* The unit's oldest running request is never pre-empted: alone it fits, and with others the youngest goes.
"""

import math
from collections.abc import Callable, Iterable

from muxjax.scheduler.view import Chunk, Job, ModelView, Pending, Running, View, grains


def chunks(view: View, model: ModelView, room_blocks: int, tokens: int) -> tuple[Chunk, ...]:
    """Chunks that the model can prefill next, if any: of admitted requests first, then of waiting ones in their order.

    Args:
      tokens: most of all chunks, each in whole grains.
      room_blocks: may be taken for waiting requests; growth needs none of them. One column is left for each newly admitted sequence
        to grow into.
    """
    chunks: list[Chunk] = []
    slots = model.free_slots
    for request in model.pending[: view.max_rows]:
        if tokens <= 0 or (not request.admitted and (slots == 0 or request.blocks > room_blocks)):
            break
        chunks.append(Chunk(request_id=request.request_id, tokens=min(tokens, request.tokens)))
        tokens -= grains(chunks[-1].tokens)
        if not request.admitted:
            slots -= 1
            room_blocks -= request.blocks + model.column_blocks
    return tuple(chunks)


def blocks_taken(model: ModelView, chunks: tuple[Chunk, ...]) -> int:
    """Head blocks that `chunks` of the model take or leave for their requests to grow into."""
    return sum([request.blocks + model.column_blocks for request in model.pending[: len(chunks)] if not request.admitted])


def budget(view: View, model: ModelView) -> int:
    """Tokens that the model's chunks may have: few enough beside others that their sequences are not held up for long."""
    if view.shared_budget is None or not any(other.running for other in view.models if other.name != model.name):
        return view.token_budget
    return min(view.token_budget, view.shared_budget)


def job(model: ModelView, chunks: tuple[Chunk, ...], room_blocks: int, sm_share: int | None = None) -> Job | None:
    """The model's next job: those chunks, and a token for every sequence that has room for it; None if that is nothing.

    Args:
      room_blocks: may be taken for growth.
      sm_share: as of `Job`.
    """
    grow = min(model.growing, max(room_blocks, 0) // model.column_blocks)
    decode = model.decoding + grow > 0
    if not chunks and not decode:
        return None
    return Job(model=model.name, chunks=chunks, decode=decode, grow=grow, lane=model.lane, sm_share=sm_share)


def waiting(model: ModelView) -> Pending | None:
    """The request that the model would admit next, None if it waits for nothing but its own sequences to end."""
    return next((request for request in model.pending if not request.admitted), None) if model.free_slots else None


def wanted_by_growth(models: Iterable[ModelView]) -> int:
    """Blocks that sequences need for their very next token."""
    return sum([model.growing * model.column_blocks for model in models])


def headroom(models: Iterable[ModelView]) -> int:
    """A column for every running sequence: admission leaves it free, so that what it admits is not soon pre-empted."""
    return sum(model.running * model.column_blocks for model in models)


def starves(model: ModelView, room_blocks: int) -> bool:
    """All its sequences wait for a column, none is coming from steps of its own, and `room_blocks` do not hold one."""
    return stuck(model) and not any(request.admitted for request in model.pending) and room_blocks < model.column_blocks


def stuck(model: ModelView) -> bool:
    """All its sequences that decode wait for a column, and none is coming from steps of its own."""
    return model.growing > 0 and not model.decoding and not model.in_flight


def youngest(view: View) -> tuple[str, Running] | None:
    """The unit's youngest running request and its model; None if it is also the oldest."""
    if sum(model.running for model in view.models) < 2:
        return None
    running = ((model.name, model.youngest) for model in view.models if model.youngest)
    return max(running, key=lambda pair: (pair[1].arrival_s, pair[1].request_id), default=None)


def first_claim(models: Iterable[ModelView], room_blocks: int) -> ModelView | None:
    """First of models, in the order of their claims, that waits to admit, if `room_blocks` are too few: nobody else may admit."""
    first = next((model for model in models if waiting(model)), None)
    request = waiting(first) if first else None
    return first if request and request.blocks > room_blocks else None


def by_turn(models: Iterable[ModelView], served: Callable[[ModelView], int]) -> list[ModelView]:
    """Those that have waited longest for their weight first: of equal weights, the least recently served.

    Models that always have work get turns about in proportion to their weights, and every one gets its turn.

    Args:
      served: number of the model's last job that counts.
    """
    models = tuple(models)
    now = 1 + max((max(model.last_prefill, model.last_decode) for model in models), default=0)
    return sorted(models, key=lambda model: -(now - served(model)) * model.weight)


def arrival_s(request: Pending | None) -> float:
    """Arrival of a request, infinity of none."""
    return request.arrival_s if request else math.inf
