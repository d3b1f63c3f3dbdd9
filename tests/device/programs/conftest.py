"""XLA for CPU cannot serialize what it has itself read from a cache: programs of these tests are compiled afresh."""

import pytest

from muxjax.device.programs.store import without_jax_cache
from tests.programs import with_jax_cache


@pytest.fixture(autouse=True)
def _compiled_afresh():
    without_jax_cache()
    yield
    with_jax_cache()
