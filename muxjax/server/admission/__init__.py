"""Admission control: tenants, rate limits, queues and targets."""
