"""Index of docs/results/: question and command of each page, the commit it was measured at, and whether its code has changed since.

Run after measuring, or to see what is stale: `python -m scripts.index_results`.
"""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.results import RESULTS, ROOT, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One folder of docs/results/.

    Args:
      module: the script that made it, such as "scripts.paper.shape".
      commits: those its runs were measured at; "-dirty" where the tree had changes that were not committed.
    """

    name: str
    question: str
    command: str
    module: str
    commits: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The last commit a page was measured at, and how many commits have touched its code since; -1 where nobody knows."""

    commit: str
    date: str
    changes: int


def pages(results: Path = RESULTS) -> list[Page]:
    """All pages by name; a folder without a question, a command or runs is an error."""
    return [_page(folder) for folder in sorted(results.iterdir()) if folder.is_dir()]


def code(module: str, root: Path = ROOT) -> set[str]:
    """The script, what it shares with other scripts, and the packages of muxjax that these import: paths below the root."""
    found, unread = set[str](), [module]
    while unread:
        path = unread.pop().replace(".", "/") + ".py"
        if path in found or not (root / path).exists():
            continue
        found.add(path)
        for name in _imports((root / path).read_text()):
            if name.startswith("scripts."):
                unread += [name, name.rpartition(".")[0]]
            elif name.startswith("muxjax."):
                found.add(_package(name, root))
    return found


def measured(page: Page, root: Path = ROOT) -> Measured:
    """What git says of a page; of commits that a clone does not have it says nothing."""
    times = {commit: _time(commit, root) for commit in page.commits}
    last = max(page.commits, key=lambda commit: (times[commit], commit))
    if not times[last]:
        return Measured(commit=last, date="", changes=-1)
    date = _git(root, "show", "-s", "--format=%as", _clean(last))
    since = _git(root, "log", "--format=%h", f"{_clean(last)}..HEAD", "--", *sorted(code(page.module, root)))
    return Measured(commit=last, date=date, changes=len(since.split()))


def render(rows: list[tuple[Page, Measured]]) -> str:
    """docs/results/README.md."""
    head = ["question", "command", "last measured", "its code since then"]
    body = [
        [
            f"[{page.question}]({page.name}/README.md)",
            f"`{page.command}`",
            f"{when.date}, {when.commit}" if when.date else when.commit,
            _changed(when),
        ]
        for page, when in rows
    ]
    return f"{INTRODUCTION}\n{table(head, body)}\n"


def _changed(when: Measured) -> str:
    if when.changes < 0:
        return "not known: this clone does not have the commit"
    return f"{when.changes} changes" if when.changes else "unchanged"


INTRODUCTION = """# Results

A folder a question: its README.md has the question, the command and the answer, which the script writes from the runs beside it (a line of
JSON a run: commit, device, versions, configuration, seed, every value). This index is made by `python -m scripts.index_results`. Its last
column counts the commits that have touched the script, or a package that it imports, since it was run: such a page may tell of code that is
no more.
"""


def _page(folder: Path) -> Page:
    text = (folder / "README.md").read_text()
    commands = re.findall(r"`(python -m (scripts[\w.]+)[^`]*)`", text)
    commits = {json.loads(line)["commit"] for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()}
    assert text.startswith("# ") and commands and commits, f"{folder} has no question, command or runs"
    command, module = commands[0]
    return Page(
        name=folder.name, question=text.splitlines()[0].removeprefix("# "), command=command, module=module, commits=frozenset(commits)
    )


def _imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _package(name: str, root: Path) -> str:
    """Such as "muxjax/cache", or "muxjax/types.py"."""
    top = "/".join(name.split(".")[:2])
    return top if (root / top).is_dir() else f"{top}.py"


def _time(commit: str, root: Path) -> int:
    """Of the commit, in seconds; 0 of one that the clone does not have."""
    try:
        return int(_git(root, "show", "-s", "--format=%ct", _clean(commit)))
    except subprocess.CalledProcessError:
        return 0


def _clean(commit: str) -> str:
    return commit.removesuffix("-dirty")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    (RESULTS / "README.md").write_text(render([(page, measured(page)) for page in pages()]))


if __name__ == "__main__":
    main()
