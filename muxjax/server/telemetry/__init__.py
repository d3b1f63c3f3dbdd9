"""Telemetry of requests and jobs: metrics, logs, traces, spans."""
