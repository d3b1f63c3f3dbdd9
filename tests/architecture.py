"""The rules of docs/architecture.md, as functions from a tree of source files to a list of faults.

A fault says where, what, and in brackets the heading of that page that has the rule and its reason.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ACCELERATOR = ("jax", "jaxlib", "flax", "optax", "orbax", "torch")
MAY_JIT = ("muxjax/device/step.py", "muxjax/models/decoder.py", "muxjax/pallas/kernels.py", "muxjax/demo/train.py")
JITS = ("jit", "pjit", "pmap")
_SHARED = "results baselines ceilings clocks colocation experiments made_up paper served server_page serving soak speed_page start_page"
SHARED_SCRIPTS = tuple(f"scripts.{name}" for name in _SHARED.split())
FILE_LINES, FUNCTION_LINES = 400, 60
FOLDER_FILES = 16
"""Python files of a folder of the package, besides __init__.py."""
OUTSIDE = "../" + "shared"
"""A folder that only the first authors have."""

ZONES, PACKAGES, HELD = "Two zones", "Packages, and who may import whom", "What a test holds"
"""Headings of docs/architecture.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One module or package of the table."""

    host: bool
    may_import: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name.

    Args:
      name: absolute and dotted, as far down as it is spelled.
      deferred: inside a function, or for type checkers only.
    """

    name: str
    line: int
    deferred: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file of the tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Such as "muxjax.cache.arena"; of a package its `__init__`."""
        return self.path.removesuffix(".py").replace("/", ".")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


def faults(root: Path, table: dict[str, Row]) -> list[str]:
    """All broken rules of a tree, as "path:line: what"."""
    sources = list(_sources(root))
    rules: tuple[Callable[[Source], Iterator[str]], ...] = (
        lambda source: _forbidden_imports(source, table),
        lambda source: _accelerator_in_host_zone(source, table),
        _scripts_and_tests_imported,
        _relative_imports,
        _code_in_package_files,
        _compiled_outside_the_border,
        _missing_docstring,
        _too_long,
    )
    found = [f"{source.path}:{fault}" for source in sources for rule in rules for fault in rule(source)]
    return [*found, *_crowded_folders(sources), *_mentions_of_the_outside(root)]


def read_table(text: str) -> dict[str, Row]:
    """The import table of architecture.md: rows `| packages | zone | question | may import |`, names in backticks."""
    rows = re.findall(r"^\| (`[^|]+?) \| (host|device) \| [^|]* \| ([^|]*?) ?\|$", text, re.MULTILINE)
    return {
        name: Row(host=zone == "host", may_import=frozenset(["*"] if allowed == "everything" else re.findall(r"`(.+?)`", allowed)))
        for names, zone, allowed in rows
        for name in re.findall(r"`(.+?)`", names)
    }


def cycle(table: dict[str, Row]) -> list[str]:
    """Packages that import each other in a circle, as the table allows it; empty where there is none."""
    packages = {name.split(".")[0] for name in table}
    allowed = {name: {other.split(".")[0] for other in row.may_import} & packages - {name} for name, row in table.items()}
    left = set(packages)
    while leaves := {name for name in left if not allowed[name] & left}:
        left -= leaves
    return sorted(left)


def host_modules(root: Path, table: dict[str, Row]) -> list[str]:
    """Names of all modules of the host zone."""
    sources = (source for source in _sources(root) if source.path.startswith("muxjax/"))
    return [source.module.removesuffix(".__init__") for source in sources if _row(source.module, table).host]


def _sources(root: Path) -> Iterator[Source]:
    for folder in ("muxjax", "scripts", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text()
            yield Source(path.relative_to(root).as_posix(), text, ast.parse(text))


def _key(module: str, table: dict[str, Row]) -> str | None:
    """The longest name of the table that `module` is, or lies under; None for `muxjax` itself and what the table lacks."""
    name = module.removeprefix("muxjax.")
    while name and name not in table:
        name = name.rpartition(".")[0]
    return name or None


def _row(module: str, table: dict[str, Row]) -> Row:
    key = _key(module, table)
    return table[key] if key else Row(host=True, may_import=frozenset())


def _forbidden_imports(source: Source, table: dict[str, Row]) -> Iterator[str]:
    if not source.path.startswith("muxjax/"):
        return
    if _key(source.module, table) is None and not source.is_package:
        yield f"1: no row of the table of packages names this module [{PACKAGES}]"
        return
    row, package = _row(source.module, table), source.module.split(".")[1]
    for imported in _imports(source):
        top, _, name = imported.name.partition(".")
        if top != "muxjax" or name in ("", "__version__") or name.split(".")[0] == package or "*" in row.may_import:
            continue
        if not any(name == allowed or name.startswith(allowed + ".") for allowed in row.may_import):
            yield f"{imported.line}: {package} may not import muxjax.{name} [{PACKAGES}]"


def _accelerator_in_host_zone(source: Source, table: dict[str, Row]) -> Iterator[str]:
    if not source.path.startswith("muxjax/") or not _row(source.module, table).host:
        return
    for imported in _imports(source):
        if imported.name.split(".")[0] in ACCELERATOR:
            yield f"{imported.line}: a module of the host zone imports {imported.name} [{ZONES}]"
        elif imported.name.startswith("muxjax.") and not imported.deferred and not _row(imported.name, table).host:
            yield (
                f"{imported.line}: a module of the host zone imports {imported.name} of the device zone; "
                f"import it in the function that needs it, if the table allows it at all [{ZONES}]"
            )


def _scripts_and_tests_imported(source: Source) -> Iterator[str]:
    for imported in _imports(source):
        top = imported.name.split(".")[0]
        shared = source.path.startswith("tests/scripts/") or (
            source.path.startswith("scripts/") and imported.name.startswith(SHARED_SCRIPTS)
        )
        if (top == "scripts" and not shared) or (top == "tests" and source.path.startswith("muxjax/")):
            yield f"{imported.line}: scripts and tests are not for import; may not import {imported.name} [{PACKAGES}]"


def _relative_imports(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{node.lineno}: relative import; write the whole name, muxjax.package.module [{HELD}]"


def _code_in_package_files(source: Source) -> Iterator[str]:
    if not source.is_package:
        return
    for node in source.tree.body[1:]:
        lazy = isinstance(node, ast.FunctionDef) and node.name == "__getattr__" and source.path == "muxjax/__init__.py"
        constant = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and source.path == "muxjax/__init__.py"
        if not lazy and not constant:
            yield f"{node.lineno}: a package file (__init__.py) holds only a docstring [{PACKAGES}]"


def _compiled_outside_the_border(source: Source) -> Iterator[str]:
    if not source.path.startswith("muxjax/") or source.path in MAY_JIT:
        return
    for node in ast.walk(source.tree):
        called = isinstance(node, ast.Attribute) and node.attr in JITS
        imported = isinstance(node, ast.ImportFrom) and any(alias.name in JITS for alias in node.names)
        if called or imported:
            yield f"{node.lineno}: jit outside device/step.py [{HELD}]"


def _missing_docstring(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree) and not source.path.startswith("tests/"):
        yield f"1: the module has no docstring [{HELD}]"


def _too_long(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield f"1: {lines} lines, at most {FILE_LINES} [{HELD}]"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES} [{HELD}]"


def _crowded_folders(sources: list[Source]) -> Iterator[str]:
    modules = [source for source in sources if source.path.startswith("muxjax/") and not source.is_package]
    for folder, files in Counter(source.path.rpartition("/")[0] for source in modules).items():
        if files > FOLDER_FILES:
            yield f"{folder}: {files} Python files, at most {FOLDER_FILES}: a folder answers one question [{HELD}]"


def _mentions_of_the_outside(root: Path) -> Iterator[str]:
    """Files that only the authors have are no part of the product."""
    kinds = {".py", ".md", ".toml", ".sh", ".yaml", ".yml", ".json", ".jinja", ""}
    for folder in ("", "muxjax", "scripts", "tests", "docs", ".ci"):
        top = root / folder
        for path in sorted(top.rglob("*") if folder else top.glob("*")):
            if path.is_file() and path.suffix in kinds and OUTSIDE in path.read_text(errors="replace"):
                yield f"{path.relative_to(root)}: mentions {OUTSIDE}, which a reader does not have [{HELD}]"


def _imports(source: Source) -> Iterator[Import]:
    for node, deferred in _walk(source.tree, False):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield Import(name=name, line=node.lineno, deferred=deferred)


def _walk(node: ast.AST, deferred: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_type_checkers(child)
        yield child, inside
        yield from _walk(child, inside)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
