"""The house rules that a linter cannot see: which way imports go, how large a module may be, what it may be called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "aim_engine"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# From the bottom up: a row may import the rows above it in this list, and names on one row do not know each other.
ROWS = (
    {"secret_shapes"},
    {"errors", "values"},
    {"settings"},
    {"request", "hardware", "catalog"},
    {"selection", "backends"},
    {"ladder", "job", "deriving"},
    {"plan"},
    {"expected", "fits", "lint", "resolved"},
    {"report"},
    {"runtime", "deploy"},
    {"decide", "hooks", "keywords", "configuration"},
    {"engine"},
    {"cli"},
)
NO_PART = {"__init__", "builtin_recipes", "builtin_models"}


def row_of(part: str) -> int:
    return next(index for index, row in enumerate(ROWS) if part in row)


def part_of(module: Path, package: Path) -> str:
    return module.relative_to(package).parts[0].removesuffix(".py")


def imported_parts(tree: ast.AST) -> Iterator[str]:
    """The first names below aim_engine of everything imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "aim_engine" and len(pieces) > 1:
                yield pieces[1]


def wrong_imports(package: Path) -> list[str]:
    """One sentence for every import that goes up, or sideways, or nowhere known."""
    known = set().union(*ROWS)
    found = []
    for module in sorted(package.rglob("*.py")):
        part = part_of(module, package)
        if part in NO_PART:
            continue
        if part not in known:
            found.append(f"{module.name}: {part} has no row")
            continue
        for other in imported_parts(ast.parse(module.read_text())):
            if other in known and other != part and row_of(other) >= row_of(part):
                found.append(f"{part}/{module.name} imports {other}")
    return found


def test_imports_go_one_way() -> None:
    assert wrong_imports(PACKAGE) == []


def test_every_part_has_a_row() -> None:
    parts = {part_of(module, PACKAGE) for module in MODULES} - NO_PART
    assert parts <= set().union(*ROWS)


@pytest.mark.parametrize(
    ("file", "code", "sentence"),
    [
        ("errors.py", "from aim_engine.request import Request", "errors/errors.py imports request"),
        ("request.py", "def f():\n    import aim_engine.plan", "request/request.py imports plan"),
        ("catalog/load.py", "from aim_engine.hardware.inventory import Gpu", "catalog/load.py imports hardware"),
        ("plan.py", "from aim_engine import cli", "plan/plan.py imports cli"),
        ("runtime/boot.py", "from aim_engine.deploy.docker import run", "runtime/boot.py imports deploy"),
        ("helpers.py", "", "helpers.py: helpers has no row"),
    ],
)
def test_the_import_rule_can_fail(tmp_path: Path, file: str, code: str, sentence: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code)
    assert wrong_imports(tmp_path) == [sentence]


def test_the_import_rule_allows_what_goes_down(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli/plan.py").write_text("from aim_engine.decide import decide\nfrom aim_engine import errors")
    (tmp_path / "plan.py").write_text("from aim_engine import __version__\nimport json")
    assert wrong_imports(tmp_path) == []


def test_the_guard_needs_nothing_but_python() -> None:
    """It is loaded into the engine's own process, where nothing of ours is sure to be importable."""
    import sys

    own = {f"aim_engine.runtime.{name}" for name in ("guarded_answer", "front_end")}
    for path in ("runtime/guard.py", "runtime/guarded_answer.py", "runtime/front_end.py"):
        names = set()
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names.add(str(node.module))
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        assert {name.split(".")[0] for name in names - own} <= set(sys.stdlib_module_names), path


def test_only_the_amd_detector_imports_amdsmi() -> None:
    for module in MODULES:
        if re.fullmatch(r"hardware/amd/\w+\.py", module.relative_to(PACKAGE).as_posix()):
            continue
        imports = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Import)]
        assert not [alias.name for node in imports for alias in node.names if alias.name.startswith("amdsmi")], module
        assert "from amdsmi" not in module.read_text(), module


def test_every_module_says_what_it_is() -> None:
    """Empty package files aside."""
    silent = [m for m in MODULES if m.read_text().strip() and not ast.get_docstring(ast.parse(m.read_text()))]
    assert silent == []


def test_no_module_is_long() -> None:
    assert {m.name: n for m in MODULES if (n := len(m.read_text().splitlines())) > 320} == {}


def test_no_module_is_called_nothing_in_particular() -> None:
    vague = re.compile(r"utils?|common|helpers?|managers?|misc|base_utils")
    assert [m for m in MODULES if vague.fullmatch(m.stem)] == []


def test_vendors_and_backends_are_compared_only_in_their_own_files() -> None:
    """Elsewhere such a difference is data. An equality of two variables (what is here, what was asked) is fine."""
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            assert not (isinstance(node, ast.Compare) and _names_a_vendor(node)), f"{module}:{node.lineno}"


def _names_a_vendor(compared: ast.Compare) -> bool:
    sides = [compared.left, *compared.comparators]
    subject = any(ast.unparse(side).rsplit(".", 1)[-1] in ("vendor", "backend", "platform") for side in sides)
    return subject and any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides)


@pytest.mark.parametrize(("code", "wrong"), [("gpu.vendor == 'amd'", True), ("a.backend == b.backend", False)])
def test_the_vendor_rule_can_fail(code: str, wrong: bool) -> None:
    node = ast.parse(code, mode="eval").body
    assert isinstance(node, ast.Compare)
    assert _names_a_vendor(node) is wrong
