"""Policies: pure functions from a view of a unit to a plan."""
