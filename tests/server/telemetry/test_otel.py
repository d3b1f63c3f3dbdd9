"""Requests as OpenTelemetry's spans."""

import builtins

import pytest

from muxjax.errors import ConfigError
from muxjax.server.config import HttpOptions
from muxjax.server.telemetry.otel import Spans
from muxjax.server.telemetry.watcher import open_watchers
from muxjax.types import Finish
from tests.server.http.test_app import ask
from tests.server.telemetry.test_trace import request

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def memory():
    """OpenTelemetry's exporter into a list."""
    return pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()


def sent(spans: Spans, memory) -> dict:
    spans._provider.force_flush()
    return {span.name: span for span in memory.get_finished_spans()}


def test_a_request_is_a_span_with_its_phases_within(memory):
    spans = Spans(memory)
    spans.request(request())
    found = sent(spans, memory)
    whole = found["generate a"]

    assert set(found) == {"generate a", "queued", "prefill", "decode"}
    assert all(found[name].parent.span_id == whole.context.span_id for name in ("queued", "prefill", "decode"))
    assert (whole.end_time - whole.start_time) / 1e9 == pytest.approx(1.5, abs=1e-6)
    assert (found["prefill"].end_time - found["prefill"].start_time) / 1e9 == pytest.approx(0.25, abs=1e-6)
    assert whole.attributes["gen_ai.usage.output_tokens"] == 5
    assert whole.attributes["gen_ai.response.finish_reasons"] == (Finish.LENGTH.value,)
    assert whole.parent is None


def test_the_clients_trace_goes_on(memory):
    spans = Spans(memory)
    spans.request(request(traceparent=f"00-{TRACE}-{PARENT}-01"))
    whole = sent(spans, memory)["generate a"]

    assert f"{whole.context.trace_id:032x}" == TRACE
    assert f"{whole.parent.span_id:016x}" == PARENT


def test_the_header_of_a_served_request_is_its_parent(serve, memory):
    spans = Spans(memory)
    with serve() as server:
        server.service.watchers.append(spans)
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "mine"}
        ask(
            server, "POST", "/v1/chat/completions", {"model": "a", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}, headers
        )
    whole = sent(spans, memory)["generate org/a"]

    assert f"{whole.context.trace_id:032x}" == TRACE
    assert whole.attributes["muxjax.request_id"] == "mine"
    assert whole.attributes["gen_ai.operation.name"] == "chat"


def test_the_services_name_is_ours_unless_the_environment_says_another(memory, monkeypatch):
    assert Spans(memory)._provider.resource.attributes["service.name"] == "muxjax"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    assert Spans(memory)._provider.resource.attributes["service.name"] == "theirs"


def test_an_unknown_exporter_is_told(memory, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(ConfigError, match="otlp, console, none, got 'zipkin'"):
        Spans()


def test_without_the_extra_it_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'muxjax\[otel\]'"), open_watchers(HttpOptions(otel=True)):
        pass
