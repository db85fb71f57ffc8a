"""The house rules that a machine can check: arrows, imports, sizes, names, docstrings."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "router").rglob("*.py"))
LONGEST = 600
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}

every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))


def ask(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter at the root of the repository."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_import_contracts_hold() -> None:
    """Arrows one way, a pure core, one door per library: the contracts in pyproject.toml."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"

    linted = ask(code, "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo")

    assert linted.returncode == 0, linted.stdout + linted.stderr


IMPORT_ROOM = """
import importlib, pkgutil, sys

room = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    "room", ["core", "settings", "protocol", "serving", "analysis", "control", "adapters", "web"]
)
def test_the_gateways_rooms_import_neither_mlflow_nor_pandas(room: str) -> None:
    """Every module of the room, in a fresh interpreter: what `sys.modules` holds is what was paid for."""
    imported = ask(IMPORT_ROOM, f"router.{room}")

    assert imported.returncode == 0, imported.stderr
    names = set(imported.stdout.split())
    assert "router" in names
    assert not names & {"mlflow", "pandas", "pyarrow", "sklearn"}


def test_a_gateway_has_no_numpy() -> None:
    """Eleven MiB, and a seventh of the time that its imports take, for what only workers do."""
    imported = ask("import sys, router.app.run; print(*sys.modules)")

    assert imported.returncode == 0, imported.stderr
    assert "numpy" not in imported.stdout.split()


@every_module
def test_no_module_is_longer_than_600_lines(module: Path) -> None:
    lines = len(module.read_text(encoding="utf-8").splitlines())

    assert lines <= LONGEST, f"{lines} lines: if it has two purposes it is two modules"


@every_module
def test_no_module_has_a_name_that_says_nothing(module: Path) -> None:
    assert not NAMELESS & {part.removesuffix(".py") for part in module.relative_to(ROOT).parts}


@every_module
def test_every_public_function_and_class_says_what_it_promises(module: Path) -> None:
    """So does every module. Methods are left to the reader: an implementation's promise is its port's."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    ]

    silent = [f"{node.name} (line {node.lineno})" for node in public if not ast.get_docstring(node)]

    assert ast.get_docstring(tree), "the module has no docstring"
    assert not silent
