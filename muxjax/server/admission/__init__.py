"""Who is let in: tenants, rate limits, queues and targets."""
