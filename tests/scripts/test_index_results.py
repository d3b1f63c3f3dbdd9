"""The index of results names every page, and tells when its code has changed."""

import json
import subprocess

import pytest

from scripts.index_results import code, measured, pages, render
from scripts.results import RESULTS


def missing(index: str) -> list[str]:
    """Pages that are not in the index with their question and command."""
    return [
        page.name for page in pages() if f"| [{page.question}]({page.name}/README.md) | `{page.command}` |" not in " ".join(index.split())
    ]


def test_the_index_has_every_page():
    index = (RESULTS / "README.md").read_text()

    assert missing(index) == []
    assert index.count("/README.md)") == len(pages())
    assert missing(index.replace("(soak/", "(soap/")) == ["soak"]


@pytest.fixture
def tree(tmp_path):
    """A script, a module that it imports and one that it does not, and a page measured at the first commit."""
    files = {
        "scripts/bench.py": "from muxjax.cache.arena import Arena\nfrom scripts import results",
        "scripts/results.py": "import muxjax.units",
        "muxjax/cache/arena.py": "",
        "muxjax/units.py": "",
        "muxjax/server/app.py": "",
    }
    for path, text in files.items():
        write(tmp_path, path, text)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    at = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    write(tmp_path, "results/speed/README.md", "# How fast?\n\nMade by `python -m scripts.bench --all`.")
    write(tmp_path, "results/speed/runs.jsonl", json.dumps({"commit": f"{at}-dirty"}))
    return tmp_path


def test_code_is_the_script_what_it_shares_and_the_packages_they_import(tree):
    assert code("scripts.bench", tree) == {"scripts/bench.py", "scripts/results.py", "muxjax/cache", "muxjax/units.py"}


@pytest.mark.parametrize(
    ("path", "changes"), [("muxjax/cache/new.py", 1), ("scripts/results.py", 1), ("muxjax/server/app.py", 0), ("scripts/other.py", 0)]
)
def test_a_page_whose_code_has_changed_is_marked(tree, path, changes):
    write(tree, path, "x = 1")
    commit(tree)
    (page,) = pages(tree / "results")
    when = measured(page, tree)

    assert when.changes == changes
    assert f"| [How fast?](speed/README.md) | `python -m scripts.bench --all` | {when.date}, {when.commit} |" in render([(page, when)])
    assert ("1 changes" in render([(page, when)])) == bool(changes)


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def git(root, *arguments):
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def commit(root):
    git(root, "add", "--all")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")


def test_a_commit_that_the_clone_does_not_have_is_told_as_unknown(tree):
    write(tree, "results/speed/runs.jsonl", json.dumps({"commit": "0123456789ab"}))
    (page,) = pages(tree / "results")

    assert measured(page, tree).changes == -1
    assert "| 0123456789ab | not known" in render([(page, measured(page, tree))])
