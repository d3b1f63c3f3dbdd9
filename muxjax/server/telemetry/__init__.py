"""What is told of requests and jobs: metrics, logs, traces, spans."""
