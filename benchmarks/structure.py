"""How large the code is and how it hangs together: `python -m benchmarks.structure` prints the table.

Counts only what can be read from the source: lines, files, importers, parameters that are closures, and the
stations of the paths in `docs/architecture.md`, which a test resolves to functions that exist.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUTER = ROOT / "router"
DOCUMENT = ROOT / "docs" / "architecture.md"
STATION = re.compile(r"`([\w/]+\.py):([\w.]+)`")
"""One station of a path: a file below `router/`, and a function, class or method in it."""
FORM = re.compile(r"^- `([\w/]+\.py):(\w+)`, a form of the fact", re.MULTILINE)
_CLOSURE = re.compile(r"Callable\[\[\],")


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROUTER.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def importers(of: Mapping[str, Path]) -> dict[str, set[str]]:
    """Who imports each module of the package, by name; imports inside functions count."""
    found = defaultdict(set)
    for name, path in of.items():
        for target in _imported(path):
            module = target if target in of else target.rpartition(".")[0]
            if module in of and module != name:
                found[module].add(name)
    return found


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def paths(document: str) -> dict[str, list[tuple[str, str]]]:
    """The stations of each path of `docs/architecture.md`, in their order: file below `router/`, function."""
    text = document.split("\n## Five paths\n", 1)[-1].split("\n## ", 1)[0]
    sections = re.split(r"^### (.+)$", text, flags=re.MULTILINE)
    return {
        title.strip(): STATION.findall(body)
        for title, body in zip(sections[1::2], sections[2::2], strict=True)
    }


def table() -> list[tuple[str, str]]:
    """What is measured, and its figure."""
    sources = [
        path
        for path in ROUTER.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parent.name != "data"
    ]
    known = modules()
    used = importers(known)
    plain = [name for name, path in known.items() if path.name not in ("__init__.py", "__main__.py")]
    code = [path.read_text(encoding="utf-8") for path in known.values()]
    rows = [
        ("lines in `router/`, data excluded", sum(_lines(path) for path in sources)),
        ("files in `router/`", len(sources)),
        ("modules with one importer", sum(len(used[name]) == 1 for name in plain)),
        ("`Callable[[], …]` parameters and attributes", sum(len(_CLOSURE.findall(text)) for text in code)),
        ("longest module, lines", max(map(_lines, known.values()))),
    ]
    figures = [(name, f"{value:,}".replace(",", " ")) for name, value in rows]
    document = DOCUMENT.read_text(encoding="utf-8")
    for title, stations in paths(document).items():
        files = len({file for file, _ in stations})
        figures.append((f"path “{title}”: stations; files", f"{len(stations)}; {files}"))
    if forms := FORM.findall(document):
        figures.append(("forms of a fact on its way to a verdict", str(len(forms))))
    return figures


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    """Print the table as Markdown."""
    print("| | figure |\n|---|---|")
    for name, figure in table():
        print(f"| {name} | {figure} |")


if __name__ == "__main__":
    main()
