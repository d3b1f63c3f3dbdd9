"""XLA for CPU cannot serialize what it has itself read from a cache: programs of these tests are compiled afresh."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _compiled_afresh():
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)
