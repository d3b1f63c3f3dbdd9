"""Requests in, token events out: the unit, its loop and the executors."""
