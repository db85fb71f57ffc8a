"""The house rules that a machine can check: arrows, imports, sizes, names, docstrings."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.structure import DOCUMENT, paths
from tests.support.child_libraries import CHILD_LIBRARIES, WORKER_LIBRARIES

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "router").rglob("*.py"))
LONGEST = 600
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}

PATHS = paths(DOCUMENT.read_text(encoding="utf-8"))


def named(module: Path) -> str:
    return str(module.relative_to(ROOT))


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
    asked = ask(IMPORT_ROOM, f"router.{room}")

    assert asked.returncode == 0, asked.stderr
    names = set(asked.stdout.split())
    assert "router" in names
    assert not names & {"mlflow", "pandas", "pyarrow", "sklearn"}


def test_a_gateway_has_no_numpy() -> None:
    """Eleven MiB, and a seventh of the time that its imports take, for what only workers do."""
    asked = ask("import sys, router.app.run, router.cli; print(*sys.modules)")

    assert asked.returncode == 0, asked.stderr
    assert "numpy" not in asked.stdout.split()


def test_the_gate_imports_slow_libraries_only_where_a_metric_or_a_source_needs_them() -> None:
    """scikit-learn and MLflow take seconds each."""
    asked = ask(
        "import sys, router.gate.comparison, router.gate.data, router.gate.data_sources; print(*sys.modules)"
    )

    assert asked.returncode == 0, asked.stderr
    assert not {"sklearn", "mlflow", "scipy.stats"} & set(asked.stdout.split())


def test_one_module_besides_web_knows_aiohttp_and_only_its_client() -> None:
    """An import contract sees packages, not their modules."""
    rooms = {"web", "demo"}  # whose subject is HTTP; the demo is no part of a gateway
    outside = [module for module in MODULES if not rooms & {*module.relative_to(ROOT / "router").parts}]
    users = {
        module: [name for name in imported(module) if name.partition(".")[0] == "aiohttp"]
        for module in outside
    }

    assert [module for module, names in users.items() if names] == [ROOT / "router/adapters/http/client.py"]
    assert {*users[ROOT / "router/adapters/http/client.py"]} == {"aiohttp", "aiohttp.abc"}


def child_side() -> list[Path]:
    """Modules that children import, by the contract about them, and the packages that these lie in."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (
        one for one in contracts if one["name"] == "the child side knows the protocol and the core only"
    )
    modules = [ROOT / "router" / "__init__.py", ROOT / "router" / "processes" / "__init__.py"]
    for name in (*contract["source_modules"], "router.core", "router.errors"):
        place = ROOT.joinpath(*name.split("."))
        modules += sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return modules


def imported(module: Path) -> Iterator[str]:
    """Full names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def test_the_child_side_imports_few_libraries() -> None:
    """Children run in environments that are made for a version: what they import has to be in each."""
    ours = CHILD_LIBRARIES | {"router"} | sys.stdlib_module_names
    others = {
        named(module): libraries
        for module in child_side()
        if (libraries := {name.partition(".")[0] for name in imported(module)} - ours)
    }

    assert others == {}


IMPORT_WORKER = """
import importlib, sys
from router.processes.forkserver_main import IMPORTS, ROLES

importlib.import_module(ROLES["worker"])
print(*IMPORTS["worker"], *(name for name in sys.modules if name.partition(".")[0] == "router"))
"""


def test_a_worker_imports_modules_of_the_child_side_alone_and_these_still_fewer_libraries() -> None:
    """By what it really imports: it runs in the environment of its version, where nothing else of ours is."""
    asked = ask(IMPORT_WORKER)

    assert asked.returncode == 0, asked.stderr
    ours = {name for name in asked.stdout.split() if name.partition(".")[0] == "router"}
    modules = [module for module in child_side() if module_name(module) in ours]
    assert ours == {module_name(module) for module in modules}
    names = {*asked.stdout.split(), *(name for module in modules for name in imported(module))}
    libraries = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert libraries <= WORKER_LIBRARIES | {"router"}


def module_name(module: Path) -> str:
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Each of these looks at all modules: a test for each of them costs more than what it looks at.


def test_no_module_is_longer_than_600_lines() -> None:
    """If it has two purposes it is two modules."""
    lines = {named(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}

    assert {module: length for module, length in lines.items() if length > LONGEST} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    nameless = [
        named(module)
        for module in MODULES
        if NAMELESS & {part.removesuffix(".py") for part in module.relative_to(ROOT).parts}
    ]

    assert nameless == []


def test_every_public_function_and_class_says_what_it_promises() -> None:
    """So does every module. Methods are left to the reader: an implementation's promise is its port's."""
    assert [line for module in MODULES for line in silent(module)] == []


def silent(module: Path) -> Iterator[str]:
    """What has no docstring: the module itself, and its public functions and classes."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    if not ast.get_docstring(tree):
        yield f"{named(module)}: the module"
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            yield f"{named(module)}:{node.lineno}: {node.name}"


def defined_in(module: Path) -> set[str]:
    """Names of the module's functions and classes, and `Class.method` of the latter."""
    names = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


def test_the_five_paths_are_written_down() -> None:
    assert len(PATHS) == 5
    assert all(len(stations) >= 5 for stations in PATHS.values())


@pytest.mark.parametrize("title", PATHS)
def test_every_station_of_a_path_is_in_the_code(title: str) -> None:
    """A reader who follows a path finds each function in the file that is named."""
    missing = [
        f"{file}:{name}"
        for file, name in PATHS[title]
        if not (ROOT / "router" / file).is_file() or name not in defined_in(ROOT / "router" / file)
    ]

    assert not missing
