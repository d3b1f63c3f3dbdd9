"""What README.md and docs/ say exists, exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from muxjax.errors import ConfigError
from muxjax.server.config import load_options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page):
    assert [link for link in _links(page.read_text()) if not (page.parent / link).exists()] == []


def test_every_path_in_the_map_exists():
    architecture = (ROOT / "docs/architecture.md").read_text()
    table = architecture.partition("## Where things are")[2].partition("## Shape letters")[0]

    assert _missing_files(table) == []
    assert _missing_files("| `muxjax/cache/` | `arena.py`, `no_such.py` |") == ["muxjax/cache/no_such.py"]


DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_the_form_of_all_and_a_line_in_the_index(page):
    text = page.read_text()
    head = re.match(r"# (\d{4})\. (.+)\n\nStatus: ((?:accepted|superseded by \S+), \d{4}-\d\d-\d\d)\.\n\n", text)

    assert head and page.name.startswith(f"{head[1]}-")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert f"| [{head[1]}]({page.name}) | {head[2]} | {head[3]} |" in (page.parent / "README.md").read_text()


def test_every_command_of_the_readme_is_known():
    known = _subcommands()
    named = set(re.findall(r"\bmuxjax ([a-z-]+)\b", "\n".join(_code(README))))

    assert named
    assert named <= known
    assert "no-such-command" not in known


def test_every_target_of_the_readme_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(_code(README))))

    assert {"demo", "test"} <= named <= targets


def test_every_flag_of_the_readme_is_known():
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(_code(README)))) - {"--help"}

    assert named
    helps = "".join(_muxjax(command, "--help") for command in _subcommands())
    assert named <= set(re.findall(r"--[a-z][a-z-]+", helps))


def test_the_example_configuration_is_read(tmp_path):
    example = _block("yaml", "port:")
    unit, http, _ = load_options([_write(tmp_path, example)], {})

    assert [model.name for model in unit.models] == [model["name"] for model in yaml.safe_load(example)["models"]]
    assert http.port == 8000
    assert unit.kv_cache_bytes == 40 * 2**30


def test_a_misspelt_key_of_the_example_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="rates"):
        load_options([_write(tmp_path, _block("yaml", "port:").replace("rate:", "rates:"))], {})


def test_the_example_problem_is_placed(tmp_path):
    problem = _write(tmp_path, _block("yaml", "cluster:"))
    said = _muxjax("place", problem, "-o", str(tmp_path / "placement.json"), "--explain")

    assert all(f"{name} is in unit" in said for name in ("chat", "small", "big"))
    assert (tmp_path / "placement.json").exists()


def test_the_example_script_uses_what_is_there():
    import muxjax

    script = compile(_block("python"), "README.md", "exec")

    assert {"muxjax", "LLMs", "generate", "text"} <= set(script.co_names)
    assert callable(muxjax.LLMs.generate)
    with pytest.raises(AttributeError):
        muxjax.NoSuchName  # noqa: B018


@pytest.mark.parametrize("asked", ["python2", "python3.99", "/no/such/python"])
def test_an_unfit_interpreter_is_refused_in_one_line(asked):
    ran = subprocess.run([ROOT / "scripts/find_python.sh", asked], capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "Python 3.11 or later" in ran.stderr
    assert asked in ran.stderr


def test_a_fit_interpreter_is_found():
    ran = subprocess.run([ROOT / "scripts/find_python.sh", sys.executable], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == sys.executable


def _subcommands() -> set[str]:
    return set(re.findall(r"^    ([a-z][a-z-]*)(?: |$)", _muxjax("--help"), re.MULTILINE))


def _muxjax(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "muxjax", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]


def _code(text: str) -> list[str]:
    """Code blocks and code spans."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def _block(language: str, holding: str = "") -> str:
    """The only block of a language that holds a text."""
    (block,) = (block for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in block)
    return block


def _write(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text)
    return str(path)


def _missing_files(table: str) -> list[str]:
    """Of a table `| folder or files | files in it |`: a name with no slash lies in the folder of its row."""
    missing = []
    for place, what in re.findall(r"^\| (`.+?) \| (.+?) \|$", table, re.MULTILINE):
        names = re.findall(r"`([\w./]+)`", place)
        folder = names[0] if names[0].endswith("/") else names[0].rpartition("/")[0] + "/"
        inside = re.findall(r"`([\w/]+\.\w+)`", what)
        paths = [*(name if "/" in name else folder + name for name in names), *(folder + name for name in inside)]
        missing += [path for path in paths if not (ROOT / path).exists()]
    return missing
