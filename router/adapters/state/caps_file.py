"""The file of caps: replaced whole, so that a reader finds the former content or the new one, and no part."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from router.adapters.state.directory import CapsLock, open_file, replace_file, set_aside
from router.core.caps import KEPT_SECONDS, MOST_BYTES, Caps, records_from_json, records_to_json

NAME = "caps.json"
_NEW = "caps.json.new"


class Unreadable(ValueError):
    """What is in the file is no caps of this format; the message says why."""


@dataclass(frozen=True, slots=True)
class FoundCaps:
    """What is in the file, after a look or a write."""

    caps: Caps
    unreadable: str = ""
    """Why its former content could not be read, which counts as none; empty where it could."""
    set_aside: str = ""
    """The name under which that content is now; empty where it still has its own."""


class CapsFile:
    """Caps of one state directory, shared by all gateways that use it. Blocks as long as the disk does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME
        self._lock = CapsLock(directory)
        self._seen: tuple[int, ...] | None = None
        """What the file looked like when it was read or written last."""
        self._caps = Caps()
        self.unreadable = ""
        """Why what the file holds can not be read; empty where it can."""

    @property
    def missing(self) -> bool:
        """Whether the file was not there at the last look."""
        return self._seen == ()

    def read(self) -> FoundCaps | None:
        """Its caps; None where nothing has changed since the last look. Raises OSError.

        What can not be read stays where it is: a gateway of a newer version may be using it.
        """
        seen = self._look()
        if seen == self._seen:
            return None
        self._caps, self.unreadable = Caps(), ""
        try:
            self._caps = self._read()
        except Unreadable as error:
            self.unreadable = str(error)
        self._seen = seen
        return FoundCaps(self._caps, self.unreadable)

    def make_way(self) -> FoundCaps | None:
        """For the gateway that has the directory: rename what can not be read. Raises OSError."""
        with self._lock:
            found = self.read()
            return self._set_aside() if self.unreadable else found

    def write(self, caps: Caps, now: float) -> FoundCaps:
        """Have `caps` on disk, merged with what other gateways wrote, which is returned. Raises OSError.

        What is in the file and not in `caps` stays, unless it is over 30 days old at `now`. What can not be
        read is renamed.
        """
        with self._lock:
            self.read()
            found = self._set_aside() if self.unreadable else FoundCaps(self._caps)
            known = caps.merged(self._caps.records)
            kept = {
                target: record
                for target, record in known.records.items()
                if target in caps.records or now - record.at < KEPT_SECONDS
            }
            if not self._seen or kept != self._caps.records:
                merged = Caps(kept)
                replace_file(self._path, encode(merged), self._directory / _NEW)
                self._caps, self._seen = merged, self._look()
            return replace(found, caps=self._caps)

    def _set_aside(self) -> FoundCaps:
        why, name = self.unreadable, set_aside(self._path)
        self.unreadable, self._seen = "", ()
        return FoundCaps(self._caps, why, name)

    def _look(self) -> tuple[int, ...]:
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> Caps:
        try:
            descriptor = open_file(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return Caps()
        with open(descriptor, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Unreadable(f"it is larger than {MOST_BYTES >> 20} MiB")
        return decode(content)


def encode(caps: Caps) -> bytes:
    """The file's content."""
    return orjson.dumps(records_to_json(caps), option=orjson.OPT_APPEND_NEWLINE)


def decode(content: bytes) -> Caps:
    """The caps that `encode` wrote. Raises Unreadable."""
    try:
        return Caps(records_from_json(orjson.loads(content)))
    except ValueError as error:
        raise Unreadable(str(error)) from error
