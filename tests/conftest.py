"""Tests run on CPU, as if it were four devices, and the same way every time, unless they are told otherwise."""

import gc
import logging
import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

from tests.xla_cache import XLA_CACHE

os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = ["--xla_force_host_platform_device_count=4"]  # of the host alone: a GPU stays one
if "cuda" not in os.environ["JAX_PLATFORMS"]:  # compiling is most of a run's time: with these it takes half, and programs run long enough
    FLAGS += ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(XLA_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")  # of any size; 0 is the file system's choice

# No deadlines: a compilation or a busy machine is no failure. `--hypothesis-profile=explore` looks for new examples.
hypothesis.settings.register_profile("muxjax", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("muxjax")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a shell's background, which all that tests start would be handed
    signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_MAPPINGS = 12_000


@pytest.fixture(autouse=True, scope="module")
def _programs_that_nobody_holds_go():
    """Each program that XLA compiles for the CPU takes some dozens of mappings of memory, of which Linux gives a process 65,530
    (vm.max_map_count); XLA ends the process when there are no more. JAX keeps what it has compiled for all of a run's tests."""
    yield
    mappings = Path("/proc/self/maps")
    if "jax" in sys.modules and mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        if "tests.programs" in sys.modules:
            sys.modules["tests.programs"].kept_programs.cache_clear()
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _nobody_logs_to_a_test_that_is_over():
    """A command that sets up logs has them go to the test's standard error, which is closed after it."""
    yield
    for handler in [handler for handler in logging.root.handlers if type(handler) is logging.StreamHandler]:
        logging.root.removeHandler(handler)


def pytest_collection_modifyitems(items):
    if "cuda" in os.environ["JAX_PLATFORMS"]:
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a GPU: set JAX_PLATFORMS=cuda"))
