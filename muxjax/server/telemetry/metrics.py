"""Prometheus metrics: the core ones under vLLM's names, so that its dashboards work, and ours under `muxjax_`."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.job_records import JobRecord
from muxjax.engine.stats import ModelStats, UnitStats
from muxjax.server.telemetry import logs
from muxjax.server.telemetry.request_record import RequestRecord
from muxjax.server.telemetry.step_histograms import StepHistograms
from muxjax.server.telemetry.tallies import Tallies
from muxjax.types import Finish, Request

_FIRST_TOKEN_S = (.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560)  # fmt: skip
_TOKEN_S = (.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)  # fmt: skip
_REQUEST_S = (.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)  # fmt: skip
_TOKENS = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 5))
_LABELS = ("model_name",)
_UNIT_LABELS = (*_LABELS, "unit")

FamilyT = TypeVar("FamilyT", GaugeMetricFamily, CounterMetricFamily)

Units = Callable[[], Mapping[str, UnitStats]]
Programs = Callable[[], Mapping[str, ProgramProgress]]
OnEnd = Callable[[RequestRecord], None]


class Metrics:
    """Counters and histograms of an endpoint, and gauges read from its units, by name, whenever somebody looks."""

    def __init__(self, units: Units, programs: Programs = dict):
        self._registry = registry = CollectorRegistry()
        registry.register(_UnitCollector(units))
        registry.register(_ProgramCollector(programs))
        Gauge("muxjax_tasks", "Tasks of the event loop.", registry=registry).set_function(_tasks)
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Prompt tokens processed.", _LABELS, registry=registry)
        self.generated_tokens = Counter("vllm:generation_tokens", "Tokens generated.", _LABELS, registry=registry)
        self.ended_requests = Counter("vllm:request_success", "Requests ended.", (*_LABELS, "finished_reason"), registry=registry)
        self.first_token_s = self._histogram("vllm:time_to_first_token_seconds", "From arrival to first token.", _FIRST_TOKEN_S)
        self.token_s = Tallies("vllm:inter_token_latency_seconds", "Between tokens.", _LABELS, _TOKEN_S)
        registry.register(self.token_s)
        self.mean_token_s = self._histogram("vllm:request_time_per_output_token_seconds", "A request's mean time between tokens.", _TOKEN_S)
        self.request_s = self._histogram("vllm:e2e_request_latency_seconds", "From arrival to last token.", _REQUEST_S)
        self.queue_s = self._histogram("vllm:request_queue_time_seconds", "From arrival to the first job.", _REQUEST_S)
        self.prefill_s = self._histogram("vllm:request_prefill_time_seconds", "From the first job to the first token.", _REQUEST_S)
        self.decode_s = self._histogram("vllm:request_decode_time_seconds", "From the first token to the last.", _REQUEST_S)
        self.inference_s = self._histogram("vllm:request_inference_time_seconds", "From the first job to the last token.", _REQUEST_S)
        self.request_prompt = self._histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", _TOKENS)
        self.request_generated = self._histogram("vllm:request_generation_tokens", "Tokens generated for a request.", _TOKENS)
        self.rejected = Counter("vllm:admission_rejections", "Requests refused.", (*_LABELS, "reason"), registry=registry)
        self.tenant_tokens = Counter("muxjax_tenant_tokens", "Tokens of prompts and answers.", ("tenant", *_LABELS), registry=registry)
        self.request_allowed = self._histogram("vllm:request_params_max_tokens", "Tokens a request may generate.", _TOKENS)

        self._judged = Counter("muxjax_slo_requests", "Requests of models with that target.", (*_LABELS, "target"), registry=registry)
        self._attained = Counter("muxjax_slo_attained", "Those of them within it.", (*_LABELS, "target"), registry=registry)
        self._steps = StepHistograms()
        registry.register(self._steps)

    def request(self, request: Request, on_end: OnEnd) -> "RequestMeter":
        """A meter that counts a request here and hands its record on when it ends."""
        return RequestMeter(self, request, on_end)

    def job(self, job: JobRecord) -> None:
        """Counts a step; in the engine's thread."""
        self._steps.add(job)

    def ended(self, record: RequestRecord) -> None:
        """Counts a request."""
        model = record.model
        self.ended_requests.labels(model, record.finish.value).inc()
        self.request_s.labels(model).observe(record.end_s - record.arrival_s)
        self.request_prompt.labels(model).observe(record.prompt_tokens)
        self.request_generated.labels(model).observe(record.tokens)
        if record.tpot_s is not None:
            self.mean_token_s.labels(model).observe(record.tpot_s)
        if record.started_s is not None:
            self.queue_s.labels(model).observe(record.started_s - record.arrival_s)
        if record.started_s is not None and record.first_s is not None and record.last_s is not None:
            self.prefill_s.labels(model).observe(record.first_s - record.started_s)
            self.decode_s.labels(model).observe(record.last_s - record.first_s)
            self.inference_s.labels(model).observe(record.last_s - record.started_s)

    def exposition(self) -> bytes:
        """Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def judge(self, record: RequestRecord, *, ttft_s: float | None, tpot_s: float | None) -> None:
        """Counts a request against its model's targets, if it has any. A broken-off one is not judged, a failed one has missed."""
        failed = record.finish in (Finish.FAILED, Finish.ERROR)
        for target, limit_s, took_s in (("ttft", ttft_s, record.ttft_s), ("tpot", tpot_s, record.tpot_s)):
            if limit_s is None or record.finish is Finish.ABORT or (took_s is None and not failed):
                continue
            self._judged.labels(record.model, target).inc()
            within = not failed and took_s is not None and took_s <= limit_s
            self._attained.labels(record.model, target).inc(within)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, _LABELS, buckets=buckets, registry=self._registry)


class RequestMeter:
    """Times of one request. Made in the context of the HTTP request it came with, if there is one."""

    def __init__(self, metrics: Metrics, request: Request, on_end: OnEnd):
        self._metrics = metrics
        self._on_end = on_end
        self._request = request
        self._access = logs.current.get()
        self._generated = metrics.generated_tokens.labels(request.served)
        self._token_s = metrics.token_s.labels(request.served)
        self._started_s: float | None = None
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._tokens = 0

    @property
    def has_begun(self) -> bool:
        """A token has come."""
        return self._first_s is not None

    def started(self, at_s: float) -> None:
        """The first job that computes of the prompt began; later ones do not count. May be called from the engine's thread."""
        if self._started_s is None:
            self._started_s = max(at_s, self._request.arrival_s)

    def tokens(self, at_s: Sequence[float]) -> None:
        """So many have come, at these times."""
        for each_s in at_s:
            self._token(each_s)
        self._generated.inc(len(at_s))

    def prompt(self, at_s: float) -> None:
        """All of the prompt is computed: its first token is there, told or not."""
        self._metrics.first_token_s.labels(self._request.served).observe(at_s - self._request.arrival_s)
        self._metrics.prompt_tokens.labels(self._request.served).inc(len(self._request.prompt))
        self._first_s = self._last_s = at_s

    def _token(self, at_s: float) -> None:
        if self._last_s is None:
            self.prompt(at_s)
        else:
            self._token_s.add(at_s - self._last_s)
        self._last_s = at_s
        self._tokens += 1

    def end(self, finish: Finish, at_s: float) -> None:
        request, access = self._request, self._access
        record = RequestRecord(
            id=request.id,
            http_id=access.id if access else "",
            traceparent=access.traceparent if access else "",
            model=request.served,
            arrival_s=request.arrival_s,
            started_s=self._started_s,
            first_s=self._first_s,
            last_s=self._last_s,
            end_s=at_s,
            prompt_tokens=len(request.prompt),
            tokens=self._tokens,
            finish=finish,
        )
        self._metrics.ended(record)
        self._metrics.request_allowed.labels(request.served).observe(request.sampling.max_tokens)
        if access:
            access.add(record)
        self._on_end(record)


class _UnitCollector(Collector):
    """Gauges of the units at the moment of the scrape."""

    def __init__(self, units: Units):
        self._units = units

    def collect(self) -> Iterator[Metric]:
        units = self._units()
        yield _gauge(units, "vllm:num_requests_running", "Requests admitted.", lambda model: model.running)
        yield _gauge(units, "vllm:num_requests_waiting", "Requests waiting for admission.", lambda model: model.waiting)
        yield _gauge(units, "vllm:kv_cache_usage_perc", "Share of the model's quota in use, 0 to 1.", _usage)
        yield _gauge(units, "muxjax_kv_peak_blocks", "Most head blocks the model ever owned.", lambda model: model.peak_blocks)
        yield _gauge(units, "muxjax_kv_quota_blocks", "Head blocks the model may own.", lambda model: model.quota_blocks)
        yield _counter(units, "vllm:num_preemptions", "Requests that gave their blocks back.", lambda model: model.preemptions)
        yield _counter(units, "vllm:prefix_cache_queries", "Prompt tokens looked up in the cache.", lambda model: model.prefix_queries)
        yield _counter(units, "vllm:prefix_cache_hits", "Prompt tokens that were in the cache.", lambda model: model.prefix_hits)
        yield _counter(units, "vllm:spec_decode_num_drafts", "Drafts, of a sequence in a step each.", lambda model: model.drafts)
        yield _counter(units, "vllm:spec_decode_num_draft_tokens", "Tokens of drafts.", lambda model: model.draft_tokens)
        yield _counter(
            units, "vllm:spec_decode_num_accepted_tokens", "Those that became part of an answer.", lambda model: model.accepted_tokens
        )
        yield _counter(
            units, "muxjax_prefix_cache_evicted_blocks", "Cached head blocks evicted for others.", lambda model: model.evicted_blocks
        )
        blocks = GaugeMetricFamily("muxjax_kv_blocks", "Head blocks of the arena.", labels=(*_UNIT_LABELS, "state"))
        for name, unit in units.items():
            for model in unit.models:
                blocks.add_metric((model.name, name, "held"), model.held_blocks)
                blocks.add_metric((model.name, name, "cached"), model.cached_blocks)
            blocks.add_metric(("", name, "free"), unit.free_blocks - sum(model.cached_blocks for model in unit.models))
        yield blocks

    def describe(self) -> Iterator[Metric]:
        yield from ()


class _ProgramCollector(Collector):
    """Gauge of the sizes of steps at the moment of the scrape."""

    def __init__(self, programs: Programs):
        self._programs = programs

    def collect(self) -> Iterator[Metric]:
        text = "Sizes of the model's steps; a larger one stands in for one that is missing."
        gauge = GaugeMetricFamily("muxjax_step_sizes", text, labels=(*_LABELS, "state"))
        for name, progress in self._programs().items():
            failed = len(progress.failed)
            for state, count in (("ready", progress.ready), ("failed", failed), ("missing", progress.all - progress.ready - failed)):
                gauge.add_metric((name, state), count)
        yield gauge

    def describe(self) -> Iterator[Metric]:
        yield from ()


def _gauge(units: Mapping[str, UnitStats], name: str, help_text: str, value: Callable[[ModelStats], float]) -> Metric:
    return _filled(GaugeMetricFamily(name, help_text, labels=_UNIT_LABELS), units, value)


def _counter(units: Mapping[str, UnitStats], name: str, help_text: str, value: Callable[[ModelStats], float]) -> Metric:
    return _filled(CounterMetricFamily(name, help_text, labels=_UNIT_LABELS), units, value)


def _filled(family: FamilyT, units: Mapping[str, UnitStats], value: Callable[[ModelStats], float]) -> FamilyT:
    for name, unit in units.items():
        for model in unit.models:
            family.add_metric((model.name, name), value(model))
    return family


def _usage(model: ModelStats) -> float:
    return min(1.0, model.held_blocks / model.quota_blocks) if model.quota_blocks else 0.0


def _tasks() -> int:
    """Tasks of the caller's event loop; 0 where there is none."""
    with contextlib.suppress(RuntimeError):
        return len(asyncio.all_tasks())
    return 0
