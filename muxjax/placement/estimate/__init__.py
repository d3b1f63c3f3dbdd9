"""Estimates of what a unit serves: throughput and latencies of LLMs that share devices."""
