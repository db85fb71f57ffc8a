"""Journals on disk."""

from pathlib import Path

from router.adapters.state.journal_files import journal_files
from router.core.journal import Entry, decode, digest_of


def entries_of(directory: Path) -> list[Entry]:
    """All lines of the journal in a gateway's state directory, whose chain is whole."""
    found, before = [], None
    for path in journal_files(directory):
        for line in path.read_bytes().splitlines():
            entry, prev = decode(line)
            assert before in (None, prev), "the chain is whole"
            found.append(entry)
            before = digest_of(line)
    return found
