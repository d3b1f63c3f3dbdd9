"""Admission control: a request is let in within the tenant's rate limits, while there is room in the queue, and if the targets can be met.

All of it is known before a request reaches the engine, so that a refusal costs nothing and has its HTTP status.
"""

import time
from collections.abc import Callable, Sequence

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import RequestError
from muxjax.server.admission.queue import Queue
from muxjax.server.admission.rate_limits import Allowance
from muxjax.server.admission.tenants import Tenant
from muxjax.server.admission.throughput import first_token_s, is_full, retry_after_s
from muxjax.types import Output, Request

Clock = Callable[[], float]
OptionsOf = Callable[[str], ModelOptions | None]
OnTokens = Callable[[Tenant, str, int], None]
_STEP_TOKENS = 2048


class Admission:
    """The queues of a service and what its tenants have left.

    Args:
      unit: limits of all queues together; None for none.
      options_of: a model's limits and targets, by its name.
      on_tokens: is told of every token that a tenant has had, with its model.
      clock: the engine's; day: Unix time.
    """

    def __init__(
        self,
        unit: UnitOptions | None,
        options_of: OptionsOf,
        *,
        on_tokens: OnTokens = lambda tenant, model, count: None,
        clock: Clock = time.monotonic,
        day: Clock = time.time,
    ):
        self._unit, self._options_of, self._on_tokens, self._clock, self._day = unit, options_of, on_tokens, clock, day
        self._step_tokens = unit.max_num_batched_tokens if unit else _STEP_TOKENS
        self._queues: dict[str, Queue] = {}
        self._allowances: dict[str, Allowance] = {}
        self._lines: set[str] = set()

    def admit(self, requests: Sequence[Request], tenant: Tenant) -> "list[Admitted]":
        """A place for each of one client's requests, which are for one model.

        Raises:
          RequestError: 429 for a limit of the tenant; 503 for a full queue or a target out of reach; 400 for more at once than a queue
            ever holds. Those that pass say when to come again.
        """
        allowance = self._allowances.setdefault(tenant.name, Allowance(tenant, self._day()))
        allowance.check(self._day())
        self._lines.add(requests[0].line)
        model = requests[0].model
        queue, options = self._queues.setdefault(model, Queue(self._step_tokens)), self._options_of(model)
        self._check_room(options, [queue], requests)
        self._check_room(self._unit, list(self._queues.values()), requests)
        if options and options.enforce:
            _check_first_token(options, queue, requests[0], self._clock())
            _check_pace(options, queue, self._clock())
        allowance.take_request(self._day())

        def pay(count: int) -> None:
            allowance.take_tokens(self._day(), count)
            self._on_tokens(tenant, requests[0].served, count)

        return [Admitted(queue, request, pay, self._clock()) for request in requests]

    def _check_room(self, limits: ModelOptions | UnitOptions | None, queues: Sequence[Queue], requests: Sequence[Request]) -> None:
        if limits is None:
            return
        line, shared, now_s = requests[0].line, len(self._lines) > 1, self._clock()
        more = sum(len(request.prompt) for request in requests)
        pairs = [(queue.requests(), queue.requests(line), queue.begun.mean_per_s(now_s)) for queue in queues]
        _check_queue(pairs, limits.max_num_queued_reqs, len(requests), "requests", shared=shared)
        pairs = [(queue.tokens(), queue.tokens(line), queue.left.mean_per_s(now_s)) for queue in queues]
        _check_queue(pairs, limits.max_num_queued_tokens, more, "prompt tokens", shared=shared)


class Admitted:
    """A request's place, from the queue to its end.

    Args:
      pay: takes tokens from the tenant's allowance.
    """

    def __init__(self, queue: Queue, request: Request, pay: Callable[[int], None], at_s: float):
        self._queue, self._request, self._pay = queue, request, pay
        self._last_s: float | None = None
        self._left = False
        queue.enter(request, at_s)
        pay(len(request.prompt))

    def advance(self, output: Output) -> None:
        """A step of it has come."""
        if output.token is not None and not self._left:
            self._add(output.at_s)
        if output.finish is not None:
            self.leave()

    def _add(self, at_s: float) -> None:
        if self._last_s is None:
            self._queue.begin(self._request, at_s)
        else:
            self._queue.pace.add(at_s, at_s - self._last_s, 1)
        self._last_s = at_s
        self._pay(1)

    def leave(self) -> None:
        """Frees the place of a request that has ended, in whatever way; further calls do nothing."""
        if self._left:
            return
        self._left = True
        if self._last_s is None:
            self._queue.give_up(self._request)
        else:
            self._queue.running -= 1


def _check_queue(pairs: Sequence[tuple[int, int, float | None]], limit: int | None, more: int, what: str, *, shared: bool) -> None:
    """Args: pairs: of each queue that shares the limit, what is in it, the line's part of that, and how much leaves a second."""
    if limit is None:
        return
    if more > limit:
        raise RequestError(f"{more} {what} at once are more than the queue ever holds, which is {limit}.", code="queue_too_small")
    queued, own = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    if is_full(limit, queued, own, more, shared=shared):
        known = [pair[2] for pair in pairs if pair[2] is not None]
        wait_s = retry_after_s(more, sum(known) if known else None)
        raise RequestError(f"The queue is full: {queued} {what} wait.", code="queue_full", status=503, retry_after_s=wait_s)


def _check_first_token(options: ModelOptions, queue: Queue, request: Request, now_s: float) -> None:
    """Raises where what waits before the request would take too long even at the best rate of late."""
    ahead_tokens, own_tokens = queue.ahead_tokens(request), len(request.prompt)
    if options.ttft_s is None or not queue.is_backlog(queue.requests(request.line), ahead_tokens):
        return
    soonest_s = first_token_s(ahead_tokens, own_tokens, queue.left.best_per_s(now_s))
    if soonest_s > options.ttft_s:
        wait_s = retry_after_s(soonest_s - options.ttft_s, 1.0)
        raise _out_of_reach(f"a first token takes {soonest_s:.3g} s at least, the target is {options.ttft_s:g} s", wait_s)


def _check_pace(options: ModelOptions, queue: Queue, now_s: float) -> None:
    """Raises where the requests that run already get their tokens too slowly even at the best of late; another one adds to that."""
    best_per_s = queue.pace.best_per_s(now_s)
    if options.tpot_s is not None and queue.running and best_per_s is not None and best_per_s * options.tpot_s < 1:
        raise _out_of_reach(f"a token takes {1 / best_per_s:.3g} s at least, the target is {options.tpot_s:g} s", None)


def _out_of_reach(why: str, wait_s: float | None) -> RequestError:
    return RequestError(f"The target cannot be met now: {why}.", code="target_unreachable", status=503, retry_after_s=wait_s)
