"""Where tests keep what XLA compiled, which is most of a run's time, for the tests, workers and runs after them."""

from pathlib import Path

XLA_CACHE = Path(__file__).parents[1] / ".xla_cache"
"""JAX names an entry by program, versions and flags, so an old one is never wrong. A worker that reads what another has half written warns,
and compiles. Nothing is ever taken out; `make clean` removes it."""
