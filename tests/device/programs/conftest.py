"""XLA for CPU cannot serialize what it has itself read from a cache: programs of these tests are compiled afresh."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from muxjax.device.programs.store import without_jax_cache


@pytest.fixture(autouse=True)
def _compiled_afresh():
    without_jax_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()
