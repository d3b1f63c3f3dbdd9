"""The one mutable heart: all requests, block tables and quotas of the models that share a device and its cache."""

import logging
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from muxjax.cache.arena import Arena
from muxjax.cache.block_pool import BlockPool
from muxjax.engine.executor import NO_TOKEN, Done, Fault, Step
from muxjax.engine.job_records import OnJob, job_record
from muxjax.engine.lane_times import LaneTimes
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.model.sequence import Sequence, Stage
from muxjax.engine.model.state import ModelState
from muxjax.engine.request_checker import ModelFacts, RequestChecker
from muxjax.engine.speculation.draft_requests import DraftRequests
from muxjax.engine.stats import ModelStats, Status, UnitStats
from muxjax.errors import ConfigError
from muxjax.scheduler import quota
from muxjax.scheduler.view import Job, StepPlan, View
from muxjax.types import Finish, Output, Request

_NOT_FINITE = Fault(what="its logits are not finite")
_log = logging.getLogger(__name__)


class _Flight(NamedTuple):
    """A step in flight, when it was launched, and the requests of its chunks."""

    step: Step
    launched_s: float
    prefills: tuple[str, ...]


class Unit:
    """Models on one device and one arena. It deals their first quotas; the plans it commits may name others.

    Args:
      total_blocks: head blocks of the arena.
      token_budget: most new tokens of one job's chunks, in whole TOKEN_GRAINs; max_rows: most chunks.
      shared_budget: the same while another model has sequences that run; None for token_budget.
      look_ahead: most steps of a model in flight.
      every_token: each has an Output; else only the last ones of prefills and of requests, where nobody reads the tokens.
      prefix_caching: what was computed is kept while there is room, for requests that begin alike.
      prefix_cache_fraction: of the arena; see `BlockPool`.
    """

    def __init__(
        self,
        configs: Iterable[ModelConfig],
        *,
        total_blocks: int,
        token_budget: int,
        shared_budget: int | None = None,
        max_rows: int = 32,
        look_ahead: int = 2,
        every_token: bool = True,
        prefix_caching: bool = True,
        prefix_cache_fraction: float = 0.5,
    ):
        self._pool = BlockPool(Arena(total_blocks), share_frac=prefix_cache_fraction)
        self._new_state = partial(
            ModelState, pool=self._pool, prefix_caching=prefix_caching, look_ahead=look_ahead, rows=max_rows, every_token=every_token
        )
        self._states: Mapping[str, ModelState] = {config.name: self._new_state(config) for config in configs}  # replaced, never changed
        self._block_bytes = next(iter(self._states.values())).config.layout.block_bytes
        self._sequences: dict[str, Sequence] = {}  # not ended
        self._flights: dict[int, _Flight] = {}
        self._on_job: list[OnJob] = []
        self._drafts = DraftRequests(self)
        self._token_budget, self._shared_budget, self._max_rows = token_budget, shared_budget, max_rows
        self._times = LaneTimes()
        self._step_id = 0
        self._quotas_moved_s = 0.0
        self._deal()
        self._checker = self._new_checker()

    @property
    def checker(self) -> RequestChecker:
        """Facts by which requests are checked; from any thread."""
        return self._checker

    def watch(self, on_job: OnJob) -> None:
        """Tells one more of each step that ends, as it is recorded: it must neither wait nor raise."""
        self._on_job.append(on_job)

    def submit(self, request: Request) -> list[Output]:
        """Takes a request that the checker has let pass; it ends in exactly one Output with a finish.

        That one is here already where its id is in use, or its model or the arena is no longer what it was checked by.
        """
        if request.id in self._sequences or not self._checker.still_fits(request):
            return [Output(request.id, None, Finish.FAILED, request.arrival_s)]
        state = self._states[request.model]
        try:
            sequence = Sequence.of(request, state.config)
            state.enter(sequence)
        except Exception:  # of whatever kind: nothing has been taken for it yet, and it is nobody else's
            _log.exception("the request %s of %s cannot be taken", request.id, request.model)
            return [Output(request.id, None, Finish.ERROR, request.arrival_s)]
        self._sequences[request.id] = sequence
        return []

    def cancel(self, request_id: str, *, now_s: float) -> list[Output]:
        """Ends a request early; nothing happens when there is no such one."""
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return []
        return self._drafts.hear([self._end(sequence, None, Finish.ABORT, now_s)])

    def waits(self, request_id: str) -> bool:
        """It is not admitted, or has been pre-empted."""
        return self._sequences[request_id].stage is Stage.WAITING

    def view(self, now_s: float) -> View:
        """Picture of this moment, by which a policy decides."""
        self._drafts.settle(now_s)
        return View(
            now_s=now_s,
            quota_age_s=now_s - self._quotas_moved_s,
            free_blocks=self._pool.free,
            total_blocks=self._pool.total,
            token_budget=self._token_budget,
            shared_budget=self._shared_budget,
            max_rows=self._max_rows,
            models=tuple([state.view(now_s) for state in self._states.values() if state.serves]),
        )

    def commit(self, plan: StepPlan, *, now_s: float) -> list[Step]:
        """Makes a plan true: the only place that takes head blocks, and the steps to launch for it."""
        if plan.quotas:
            self._quotas_moved_s = now_s
        for name, blocks in plan.quotas.items():
            self._states[name].allot(blocks)
        for request_id in plan.preempt:
            sequence = self._sequences[request_id]
            self._states[sequence.request.model].preempt(sequence)
        return [self._launch(job, now_s) for job in plan.jobs]

    def record(self, done: Iterable[Done]) -> list[Output]:
        """Takes in what finished steps sampled; blocks of requests that ended go back. A model whose step has a fault serves no more."""
        outputs: list[Output] = []
        for step_done in done:
            step, launched_s, prefills = self._flights.pop(step_done.step_id)
            began_s = self._times.began_s(step.lane, launched_s, step_done.at_s)
            if self._on_job:
                record = job_record(step, prefills, began_s, step_done)
                for on_job in self._on_job:
                    on_job(record)
            state = self._states[step.model]
            fault = step_done.fault or (_NOT_FINITE if (step_done.tokens[: len(step.slots)] == NO_TOKEN).any() else None)
            if fault is not None:
                outputs += self._undo(step, fault, step_done.at_s)
                continue
            new, _, ends = state.absorb(step, step_done, step_done.at_s - began_s)
            for i, sequence, finish in ends:
                self._end(sequence, None, finish, step_done.at_s)
                new[i] = new[i]._replace(finish=finish)
            state.land(step, step_done.at_s - began_s)
            outputs += new
            self._ask_drafts(state, step_done.at_s)
        return self._drafts.hear(outputs)

    @property
    def can_launch(self) -> bool:
        """Some model has requests, and another step of it may be launched."""
        return any(state.can_launch for state in self._states.values())

    @property
    def idle(self) -> bool:
        """No request is unfinished and no step in flight."""
        return not self._sequences and not self._flights

    @property
    def drafting(self) -> bool:
        """Some sequence waits for a draft, at most until the next view where nobody makes it."""
        return bool(self._drafts)

    @property
    def oldest_step(self) -> tuple[Step, float] | None:
        """The first step in flight, and when it was launched; may be asked from any thread."""
        return next(((flight.step, flight.launched_s) for flight in tuple(self._flights.values())), None)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Ids of the requests that have not ended."""
        return tuple(self._sequences)

    @property
    def owned_frac(self) -> float:
        """Share of the head blocks that sequences hold."""
        return 1 - self._pool.free / self._pool.total

    def stats(self) -> UnitStats:
        """A snapshot of counts for people and metrics."""
        return UnitStats(
            total_blocks=self._pool.total,
            free_blocks=self._pool.free,
            block_bytes=self._block_bytes,
            models=tuple(_stats(state) for state in self._states.values()),
        )

    def add(self, config: ModelConfig) -> None:
        """A model more; quotas are dealt anew, as whenever one comes or goes."""
        assert config.name not in self._states, "a model is added twice"
        self._states = {**self._states, config.name: self._new_state(config)}
        self._deal()
        self._checker = self._new_checker()

    def remove(self, model: str) -> None:
        """Forgets a model that is not busy."""
        assert not self.busy(model), "a model is removed that has requests or steps"
        self._pool.remove(self._states[model].blocks)
        self._states = {name: state for name, state in self._states.items() if name != model}
        self._deal()
        self._checker = self._new_checker()

    def turn_to(self, model: str, status: Status) -> None:
        """Opens or closes a model to requests."""
        state = self._states[model]
        served, state.status = state.serves, status
        if state.serves != served:
            self._deal()
        self._checker = self._new_checker()

    @property
    def total_blocks(self) -> int:
        """Head blocks of the arena."""
        return self._pool.total

    def status(self, model: str) -> Status:
        return self._states[model].status

    def busy(self, model: str) -> bool:
        """It has unfinished requests or steps in flight."""
        return self._states[model].busy

    def end_all(self, model: str, finish: Finish, *, now_s: float) -> list[Output]:
        """Ends all requests of a model."""
        own = [sequence for sequence in self._sequences.values() if sequence.request.model == model]
        return self._drafts.hear([self._end(sequence, None, finish, now_s) for sequence in own])

    def forget(self, models: Collection[str]) -> None:
        """No step in flight of these models will finish, and the cache has lost what it had of them: what runs waits again, with the
        tokens it has."""
        self._flights = {step_id: flight for step_id, flight in self._flights.items() if flight.step.model not in models}
        for name, state in self._states.items():
            if name in models:
                state.forget()

    def resize(self, total_blocks: int) -> None:
        """An arena of another size, and an empty one: all that was in the old one is forgotten.

        Raises:
          ConfigError: it would be too small for a request there is.
        """
        layouts = {name: state.config.layout for name, state in self._states.items()}
        requests = [sequence.request for sequence in self._sequences.values()]
        needed = max((layouts[request.model].blocks(request.most_tokens - 1) for request in requests), default=0)
        if needed > total_blocks:
            raise ConfigError(f"a running request may need {needed} head blocks, and a smaller cache would have {total_blocks}")
        self.forget(self._states)
        self._pool.resize(total_blocks)
        self._deal()
        self._checker = self._new_checker()

    def _ask_drafts(self, state: ModelState, now_s: float) -> None:
        """Has a model's draft model go on where its sequences stand, if it has one that is here."""
        speculation = state.config.speculation
        drafting = self._states.get(speculation.draft_model) if speculation else None
        if drafting is not None:
            self._drafts.ask(state, drafting, now_s)

    def _undo(self, step: Step, fault: Fault, at_s: float) -> list[Output]:
        """A step has come to nothing: its model has failed, and the others go on."""
        state = self._states[step.model]
        if step.model in fault.lost_models:
            self.forget(fault.lost_models)
        else:
            state.land(step)
        if state.status is Status.FAILED:
            return []
        state.trouble = fault.what
        self.turn_to(step.model, Status.FAILED)
        state.blocks.close()
        _log.error("the model %s has failed and serves no more: %s", step.model, fault.what)
        return self.end_all(step.model, Finish.FAILED, now_s=at_s)

    def _new_checker(self) -> RequestChecker:
        facts = {name: ModelFacts(config=state.config, status=state.status, trouble=state.trouble) for name, state in self._states.items()}
        return RequestChecker(models=facts, total_blocks=self._pool.total)

    def _deal(self) -> None:
        """Quotas and floors of those that serve, by their rates and the size of their tokens."""
        serving = {name: state for name, state in self._states.items() if state.serves}
        if not serving:
            return
        configs = {name: state.config for name, state in serving.items()}
        sizes = {name: config.layout.column_blocks / config.layout.tokens_per_block for name, config in configs.items()}
        floors = quota.floors({name: config.weight for name, config in configs.items()}, self._pool.total)
        quotas = quota.initial({name: config.rate for name, config in configs.items()}, sizes, self._pool.total, floors)
        for name, state in serving.items():
            state.allot(quotas[name], floors[name])

    def _launch(self, job: Job, now_s: float) -> Step:
        self._step_id += 1
        pending = [self._sequences[chunk.request_id] for chunk in job.chunks]
        step = self._states[job.model].launch(job, pending, self._step_id)
        self._flights[step.id] = _Flight(step, now_s, tuple([chunk.request_id for chunk in job.chunks]))
        return step

    def _end(self, sequence: Sequence, token: int | None, finish: Finish, at_s: float) -> Output:
        request = sequence.request
        del self._sequences[request.id]
        self._states[request.model].end(sequence)
        return Output(request.id, token, finish, at_s)


def _stats(state: ModelState) -> ModelStats:
    config, tally = state.config, state.tally
    return ModelStats(
        name=config.name,
        running=state.stages.running,
        waiting=len(state.stages.waiting),
        held_blocks=state.blocks.held,
        cached_blocks=state.blocks.idle_blocks,
        peak_blocks=state.blocks.peak,
        quota_blocks=state.quota_blocks,
        preemptions=tally.preemptions,
        prefix_queries=tally.prefix_queries,
        prefix_hits=tally.prefix_hits,
        evicted_blocks=state.blocks.evicted * config.layout.column_blocks,
        max_model_len=config.max_tokens,
        tokens_per_block=config.layout.tokens_per_block,
        column_blocks=config.layout.column_blocks,
        prefill_steps=tally.prefill_steps,
        decode_steps=tally.decode_steps,
        mixed_steps=tally.mixed_steps,
        prefill_tokens=tally.prefill_tokens,
        decode_tokens=tally.decode_tokens,
        drafts=tally.drafts,
        draft_tokens=tally.draft_tokens,
        accepted_tokens=tally.accepted_tokens,
        status=state.status,
        lane=config.lane,
    )
