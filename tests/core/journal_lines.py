"""Lines of a journal, as a gateway chains them and a file has them."""

from collections.abc import Iterable

from router.core.journal import BEGINNING, Entry, digest_of, encode


def chained(entries: Iterable[Entry], prev: str = BEGINNING) -> list[bytes]:
    """A line of each, which names the one before it; the first one follows `prev`."""
    lines = []
    for entry in entries:
        lines.append(encode(entry, prev))
        prev = digest_of(lines[-1])
    return lines


def content(lines: Iterable[bytes]) -> bytes:
    """Of a file that has these lines."""
    return b"".join(line + b"\n" for line in lines)
