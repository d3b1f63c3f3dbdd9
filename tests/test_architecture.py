"""The tree obeys docs/architecture.md, and the checker would notice if it did not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import FOLDER_FILES, HELD, OUTSIDE, PACKAGES, ZONES, Row, cycle, faults, host_modules, read_table

ROOT = Path(__file__).parents[1]
TABLE = read_table((ROOT / "docs/architecture.md").read_text())

LONG_FUNCTION = "def long():\n" + "    x = 1\n" * 60
PLANTED = {
    "policy reads the cache": ("muxjax/scheduler/fcfs.py", "from muxjax.cache.arena import Arena", "may not import muxjax.cache.arena"),
    "package imported whole": ("muxjax/scheduler/fcfs.py", "from muxjax import cache", "may not import muxjax.cache"),
    "import inside a function": (
        "muxjax/workload/trace.py",
        "def f():\n    import muxjax.engine.unit",
        "may not import muxjax.engine.unit",
    ),
    "placement reads more than the layout": ("muxjax/placement/check.py", "import muxjax.cache.table", "may not import muxjax.cache.table"),
    "the name of an allowed module is a prefix": (
        "muxjax/placement/check.py",
        "import muxjax.cache.layout_of_others",
        "may not import muxjax.cache.layout_of_others",
    ),
    "demo imported by the server": ("muxjax/server/http/app.py", "import muxjax.demo.run", "may not import muxjax.demo.run"),
    "a package without a row": ("muxjax/extras/thing.py", "", "no row of the table"),
    "jax in the host zone": ("muxjax/engine/unit.py", "import jax.numpy as jnp", "host zone imports jax.numpy"),
    "jax in the host zone, late": ("muxjax/engine/unit.py", "def f():\n    from jax import tree", "host zone imports jax.tree"),
    "device module at the top": (
        "muxjax/server/http/app.py",
        "from muxjax.launch.build import build",
        "host zone imports muxjax.launch.build.build of the device zone",
    ),
    "import in a package file": ("muxjax/cache/__init__.py", "import os", "holds only a docstring"),
    "jit elsewhere": ("muxjax/models/attention.py", "import jax\nf = jax.jit(print)", "jit outside device/step.py"),
    "jit by another name": ("muxjax/models/attention.py", "from jax import jit as compiled", "jit outside device/step.py"),
    "jit of flax": ("muxjax/device/executor.py", "from flax import nnx\n\n@nnx.jit\ndef f(): ...", "jit outside device/step.py"),
    "results imported by a test": ("tests/test_thing.py", "import scripts.results", "may not import scripts.results"),
    "script imported": ("tests/test_thing.py", "import scripts.bench", "may not import scripts.bench"),
    "tests imported": ("muxjax/simulate/executor.py", "import tests.fakes", "may not import tests.fakes"),
    "relative import": ("muxjax/simulate/executor.py", "from . import unit", "relative import"),
    "long function": ("scripts/bench.py", LONG_FUNCTION, "long has 61 lines"),
    "long file": ("scripts/bench.py", "x = 1\n" * 400, "401 lines"),
    "a device package imported by a model of the host": (
        "muxjax/engine/unit.py",
        "import muxjax.device.step",
        "may not import muxjax.device.step",
    ),
    "the authors' folder": ("docs/notes.md", f"see {OUTSIDE}/design", "mentions"),
}


def test_the_tree_obeys_the_map():
    assert faults(ROOT, TABLE) == []


@pytest.mark.parametrize("path, body, fault", PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_reported(tmp_path, path, body, fault):
    _write(tmp_path, path, f'"""Planted."""\n{body}')

    assert any(path in found and fault in found for found in faults(tmp_path, TABLE))


def test_a_missing_docstring_is_reported(tmp_path):
    _write(tmp_path, "muxjax/units.py", "x = 1\n")

    assert faults(tmp_path, TABLE) == ["muxjax/units.py:1: the module has no docstring [What a test holds]"]


def test_a_crowded_folder_is_reported(tmp_path):
    for i in range(FOLDER_FILES):
        _write(tmp_path, f"muxjax/cache/part{i}.py", '"""Planted."""\n')
    _write(tmp_path, "muxjax/cache/__init__.py", '"""Planted."""\n')
    assert faults(tmp_path, TABLE) == []

    _write(tmp_path, "muxjax/cache/one_more.py", '"""Planted."""\n')
    (fault,) = faults(tmp_path, TABLE)
    assert fault.startswith("muxjax/cache: 17 Python files, at most 16")


def test_every_heading_that_a_fault_names_is_in_the_map():
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)

    assert {ZONES, PACKAGES, HELD} <= set(headings)


@pytest.mark.parametrize(
    "path, body",
    [
        ("muxjax/placement/check.py", "from muxjax.cache.layout import CacheLayout"),
        ("muxjax/device/paged_memory.py", "import jax\nfrom muxjax.pallas import reference"),
        ("muxjax/device/step.py", "import jax\nf = jax.jit(print)"),
        ("muxjax/server/http/app.py", "def f():\n    from muxjax.launch.build import build"),
        ("muxjax/__main__.py", "def f():\n    import muxjax.demo.run"),
        ("muxjax/__init__.py", "def __getattr__(name):\n    from muxjax.server.llms import LLMs"),
        ("tests/test_thing.py", "from tests.fakes import thing"),
        ("scripts/make.py", "from tests.fakes import thing"),
        ("scripts/make.py", "from scripts.results import table"),
        ("scripts/bench.py", LONG_FUNCTION.replace("    x = 1\n", "", 1)),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path, path, body):
    _write(tmp_path, path, f'"""Planted."""\n{body}')

    assert faults(tmp_path, TABLE) == []


def test_the_table_is_read_row_by_row():
    assert read_table(
        "| package | zone | its question | may import |\n|---|---|---|---|\n"
        "| `a`, `b.c` | host | who? | `d` |\n| `e` | device | what? | everything |\n"
    ) == {
        "a": Row(host=True, may_import=frozenset({"d"})),
        "b.c": Row(host=True, may_import=frozenset({"d"})),
        "e": Row(host=False, may_import=frozenset({"*"})),
    }
    assert TABLE["errors"] == Row(host=True, may_import=frozenset())


def test_every_row_of_the_table_names_something_that_exists():
    missing = [name for name in TABLE if not list(ROOT.glob(f"muxjax/{name.replace('.', '/')}*"))]

    assert missing == []


def test_packages_form_no_cycle():
    assert cycle(TABLE) == []
    assert cycle({**TABLE, "types": Row(host=True, may_import=frozenset({"engine"}))}) != []


def test_the_host_zone_imports_without_jax():
    modules = host_modules(ROOT, TABLE)
    assert len(modules) > 10

    assert _first_that_loads_jax(modules) == ""


def test_a_module_that_loads_jax_is_named():
    assert _first_that_loads_jax(["json", "muxjax.device.paged_memory", "muxjax.units"]) == "muxjax.device.paged_memory"


def _first_that_loads_jax(modules: list[str]) -> str:
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'jax' in sys.modules:\n"
        "        print(name)\n"
        "        break\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def _write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
