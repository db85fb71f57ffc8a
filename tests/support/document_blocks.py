"""Markdown as our documents use it: fenced blocks, console steps, links, tables.

A `console` block holds commands after `$ `, continued by a backslash at the end of a line, each followed by
what it prints. In that, `…` stands for any text, and a line of `…` alone for any number of lines.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"```(\S*)")
_LINK = re.compile(r"(?<!!)\[((?:[^\]`]|`[^`]*`)*)\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    document: Path
    line: int
    """Of its opening fence."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a console block."""

    command: str
    shown: tuple[str, ...]
    """The lines that the document shows as its output."""


def blocks(document: Path, language: str = "") -> list[Block]:
    """The blocks of a document, or those of one language."""
    found, opened, text = [], None, list[str]()
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if opened is None and fence:
            opened, text = (number, fence[1]), []
        elif opened is not None and fence:
            found.append(Block(document, opened[0], opened[1], "".join(f"{one}\n" for one in text)))
            opened = None
        else:
            text.append(line)
    assert opened is None, f"{document}: the block of line {opened} is not closed"
    return [block for block in found if not language or block.language == language]


def steps(block: Block) -> list[Step]:
    """The commands of a console block, in their order."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in block.text.splitlines():
        if continued:
            found[-1] = (found[-1][0] + "\n" + line, [])
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            assert found, f"{block}: output before the first command"
            found[-1][1].append(line)
            continue
        continued = line.endswith("\\")
    return [Step(command, tuple(shown)) for command, shown in found]


def shows(shown: Sequence[str], output: str) -> bool:
    """Whether `output` is what a document shows of it; nothing shown promises nothing."""
    if not shown:
        return True
    anything = re.escape("…")
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line.rstrip()).replace(anything, ".*") + r"\n"
        for line in shown
    )
    printed = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
    return re.fullmatch(pattern, printed) is not None


def links(document: Path) -> Iterator[tuple[str, str]]:
    """Text and target of every link outside blocks."""
    yield from _LINK.findall(prose(document))


def prose(document: Path) -> str:
    """A document without its blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", document.read_text(encoding="utf-8"))


def first_cells(document: Path, heading: str) -> list[str]:
    """What stands in backticks in the first column of the tables under `heading`, header rows left out."""
    section = re.search(rf"(?ms)^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", prose(document))
    assert section, f"{document} has no section {heading!r}"
    cells = [line.split("|")[1] for line in section[1].splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
