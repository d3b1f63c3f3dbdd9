import pytest

from tests.programs import with_jax_cache


@pytest.fixture(autouse=True, scope="module")
def _jax_cache_as_found():
    """Engines that keep programs have JAX keep none in the whole process, which the tests of other modules would pay for."""
    yield
    with_jax_cache()
