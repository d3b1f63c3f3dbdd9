"""Arrivals, lengths, traces and the metrics of a run."""
