"""`/server_info`: what is served where, and with how much; `/server_info/live`: what it does now, for a page that asks each second."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web

from muxjax import __version__
from muxjax.engine.job_records import JobRecord
from muxjax.engine.stats import ModelStats
from muxjax.errors import RequestError
from muxjax.origin import versions
from muxjax.server.catalog import ServedModel
from muxjax.server.http.body import json_response
from muxjax.server.service import Service
from muxjax.server.telemetry.memory import MemoryReader
from muxjax.server.telemetry.request_record import RequestRecord

_MOST_JOBS = 1500
_COUNTS = (
    *("running", "waiting", "preemptions", "prefill_tokens", "decode_tokens"),
    *("held_blocks", "cached_blocks", "quota_blocks", "prefix_queries", "prefix_hits", "draft_tokens", "accepted_tokens"),
)
_OF_OPTIONS = (
    *("max_num_seqs", "rate", "weight"),
    *("max_num_queued_reqs", "max_num_queued_tokens", "enforce"),
)
_AS_HELD = ("quantization", "kv_cache_dtype")
"""Options that a placement may decide."""
_LIMITS = ("max_num_batched_tokens", "max_num_queued_reqs", "max_num_queued_tokens")


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of both."""
    began_s, memory = time.monotonic(), MemoryReader()

    async def server_info(request: web.Request) -> web.Response:
        return json_response(about(service) | {"uptime_s": round(time.monotonic() - began_s, 3)})

    async def server_info_live(request: web.Request) -> web.Response:
        more = {"uptime_s": round(time.monotonic() - began_s, 3), "memory": await memory.last()}
        return json_response(now(service, after=_after(request.query)) | more)

    return [web.get("/server_info", server_info), web.get("/server_info/live", server_info_live)]


def about(service: Service) -> dict[str, Any]:
    """The configuration, which changes only when somebody changes it, and each model's state and blocks at this moment."""
    unit, stats = service.options, service.stats()
    places = service.placing.places() if service.placing else []
    by_name = {model.name: model for model in stats.models}
    return {
        "version": __version__,
        "versions": versions(),
        "state": service.state,
        "policy": unit.policy if unit else None,
        "devices": len({device for place in places for device in place.devices}) or (unit.tensor_parallel_size if unit else 1),
        "units": [place._asdict() for place in places],
        "cache": {
            "total_blocks": stats.total_blocks,
            "free_blocks": stats.free_blocks,
            "block_bytes": stats.block_bytes,
            "kv_dtype": unit.kv_dtype if unit else "auto",
        },
        "limits": {name: getattr(unit, name) for name in _LIMITS} if unit else {},
        "models": [_model(service, model, by_name[model.name]) for model in service.catalog if model.name in by_name],
    }


def now(service: Service, *, after: int = 0) -> dict[str, Any]:
    """The picture of this moment: what may have changed since a second ago.

    Args:
      after: number of the last job that was told of already; of the newer ones, the last _MOST_JOBS are told.
    """
    stats, now_s, served = service.stats(), time.monotonic(), {model.name for model in service.catalog}
    return {
        "now_s": now_s,
        "state": service.state,
        "total_blocks": stats.total_blocks,
        "free_blocks": stats.free_blocks,
        "models": {model.name: _load(service, model, now_s) for model in stats.models if model.name in served},
        "jobs": [_job(number, record) for number, record in service.recent.jobs(after, _MOST_JOBS)],
        "requests": [_request(record, now_s) for record in service.recent.requests()],
        "refusals": [
            {"age_s": round(now_s - at_s, 3), "status": status, "code": code, "route": route}
            for at_s, status, code, route in service.recent.refusals()
        ],
        "refused": service.recent.refused(),
    }


def _model(service: Service, model: ServedModel, stats: ModelStats) -> dict[str, Any]:
    options = service.model_options(model.name)
    held = (service.placing.options_of(model.name) if service.placing else None) or options
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "state": service.model_state(stats.name),
        "programs": _programs(service, model.name),
        "chat": model.template is not None,
        "parameters": model.spec.params,
        "dtype": model.spec.dtype,
        "lane": stats.lane,
        "devices": _devices(service, model.name),
        "max_model_len": model.max_model_len,
        **({name: getattr(options, name) for name in _OF_OPTIONS} if options else {}),
        **({name: getattr(held, name) for name in _AS_HELD} if held else {}),
        "targets": {name: getattr(options, name) for name in ("ttft_s", "tpot_s")} if options else {},
        "tokens_per_block": stats.tokens_per_block,
        "blocks_per_column": stats.column_blocks,
        "quota_blocks": stats.quota_blocks,
        "held_blocks": stats.held_blocks,
        "cached_blocks": stats.cached_blocks,
        "peak_blocks": stats.peak_blocks,
    }


def _devices(service: Service, name: str) -> list[int]:
    """Numbers of the devices that serve a model."""
    if service.placing:
        return sorted({device for place in service.placing.places() if name in place.models for device in place.devices})
    return list(range(service.options.tensor_parallel_size if service.options else 1))


def _programs(service: Service, name: str) -> dict[str, Any] | None:
    """Shapes of the model's steps: how many are compiled, of how many, and what was wrong with others; None where nobody knows."""
    progress = service.fleet.programs().get(name) if service.fleet else None
    return {"ready": progress.ready, "all": progress.all, "failed": list(progress.failed)} if progress else None


def _load(service: Service, stats: ModelStats, now_s: float) -> dict[str, Any]:
    counts = {name: getattr(stats, name) for name in _COUNTS}
    latency = asdict(service.recent.latency(stats.name, now_s))
    return {"state": service.model_state(stats.name), "programs": _programs(service, stats.name), **counts, **latency}


def _request(record: RequestRecord, now_s: float) -> dict[str, Any]:
    """A request that has ended, in numbers."""
    return {
        "model": record.model,
        "age_s": round(now_s - record.end_s, 3),
        "duration_s": round(record.end_s - record.arrival_s, 6),
        "ttft_s": None if record.ttft_s is None else round(record.ttft_s, 6),
        "prompt_tokens": record.prompt_tokens,
        "tokens": record.tokens,
        "finish": record.finish,
    }


def _job(number: int, record: JobRecord) -> list[Any]:
    """A row, for there may be many: number, model, phase, begin, end, rows, tokens."""
    return [number, record.model, record.phase, round(record.start_s, 6), round(record.end_s, 6), record.rows, record.tokens]


def _after(query: Mapping[str, str]) -> int:
    """Raises RequestError: no whole number."""
    text = query.get("after", "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise RequestError(f"after must be a whole number, got {text[:50]!r}", param="after")
    return int(text)
