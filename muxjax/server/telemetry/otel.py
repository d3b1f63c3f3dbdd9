"""Requests as OpenTelemetry's spans. Needs the extra `otel`; where they go, and how many of them, is said by the variables OTEL_*."""

import os
import time
from typing import TYPE_CHECKING, Any

from muxjax import __version__
from muxjax.engine.job_records import JobRecord
from muxjax.errors import ConfigError
from muxjax.server.telemetry.request_record import RequestRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

EXPORTERS = ("otlp", "console", "none")


class Spans:
    """A watcher that makes a span of each request, with those of its phases within; its parent is the client's, by `traceparent`.

    Args:
      exporter: in place of the one that OTEL_TRACES_EXPORTER names (otlp, which is over HTTP; console; none).
    Raises:
      ConfigError: the extra is not installed, or no such exporter.
    """

    def __init__(self, exporter: "SpanExporter | None" = None):
        try:
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        defaults = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "muxjax"}
        self._provider = TracerProvider(resource=Resource.create(defaults))
        exporter = exporter or _exporter(os.environ.get("OTEL_TRACES_EXPORTER", "otlp"))
        if exporter is not None:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("muxjax", str(__version__))
        self._epoch_s = time.time() - time.monotonic()

    def request(self, record: RequestRecord) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        span = self._tracer.start_span(
            f"generate {record.model}",
            _parent(record),
            kind=SpanKind.SERVER,
            attributes=_attributes(record),
            start_time=self._ns(record.arrival_s),
        )
        within = set_span_in_context(span)
        for name, begin_s, end_s in record.spans():
            self._tracer.start_span(name, within, start_time=self._ns(begin_s)).end(self._ns(end_s))
        span.end(self._ns(record.end_s))

    def job(self, record: JobRecord) -> None:
        """Jobs serve many requests: they are no spans."""

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def _ns(self, at_s: float) -> int:
        return int((self._epoch_s + at_s) * 1e9)


def _parent(record: RequestRecord) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": record.traceparent} if record.traceparent else {})


def _attributes(record: RequestRecord) -> dict[str, Any]:
    """OpenTelemetry's names for generative models, and ours."""
    times = {} if record.ttft_s is None else {"gen_ai.server.time_to_first_token": record.ttft_s}
    return {
        "gen_ai.operation.name": "chat" if record.id.startswith("chatcmpl") else "text_completion",
        "gen_ai.request.model": record.model,
        "gen_ai.response.id": record.id,
        "gen_ai.response.finish_reasons": (record.finish.value,),
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.tokens,
        "muxjax.request_id": record.http_id,
        **times,
    }


def _exporter(name: str) -> "SpanExporter | None":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        return OTLPSpanExporter()
    if name == "none":
        return None
    raise ConfigError(f"OTEL_TRACES_EXPORTER must be one of {', '.join(EXPORTERS)}, got {name!r}", field="otel")


def _missing(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"OpenTelemetry needs the extra otel, which is not installed ({error}): pip install 'muxjax[otel]'", field="otel")
