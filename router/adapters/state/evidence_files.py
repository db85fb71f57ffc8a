"""The files of evidence, one for each run: appended to, and now and then replaced whole by a new state.

Blocks as long as the disk does. What is appended is not forced to the disk: a process that is killed loses
nothing of it, and a machine that goes down what the kernel had not written yet.
"""

import errno
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.adapters.state.directory import open_file, replace_file, set_aside, write_all
from router.analysis.evidence_format import EvidenceRefused
from router.analysis.evidence_sink import (
    EndedProcess,
    StoredEvidence,
    StoredRun,
    UncleanEnd,
)
from router.analysis.run_file import (
    MOST_FILE_BYTES,
    FoundFile,
    decode_file,
    encode_end,
    encode_file,
    encode_own,
    encode_sealed,
    header_of,
)
from router.analysis.run_key import RunSubject
from router.analysis.run_state import RunStateData
from router.analysis.statistics.records import Batch, RunCell, RunId
from router.core.ids import GatewayId

FOLDER = "evidence"
AGAIN_SECONDS = 5.0
"""After a write that failed, until a new state is asked for."""
_NAME = re.compile(r"[0-9a-f]{32}")
_NEW = ".new"
_NO_PLAIN_FILE = (errno.EINVAL, errno.ELOOP, errno.ENXIO)
"""As `open_file` says it, and the system of a link and of a socket."""


@dataclass(frozen=True, slots=True)
class Append:
    """As `EvidenceSink.append`."""

    run: RunId
    cell: int
    delta: RunCell


@dataclass(frozen=True, slots=True)
class Seal:
    """As `EvidenceSink.seal`."""

    run: RunId
    cell: int
    others: Mapping[str, RunCell]


@dataclass(frozen=True, slots=True)
class Replace:
    """As `EvidenceSink.replace`."""

    run: RunId
    subject: RunSubject
    state: RunStateData
    verdict_cell: int
    unsealed: Sequence[tuple[int, RunCell]]


@dataclass(frozen=True, slots=True)
class Forget:
    """As `EvidenceSink.forget`."""

    run: RunId


@dataclass(frozen=True, slots=True)
class End:
    """This process ends."""


Change = Append | Seal | Replace | Forget | End


@dataclass(frozen=True, slots=True)
class FoundEvidence:
    """What former gateways left."""

    stored: StoredEvidence
    set_aside: Sequence[tuple[str, str]]
    """Files that could not be read: what they are called now, and why."""


@dataclass(slots=True)
class _Run:
    """One that has a file, of whichever process."""

    number: int
    unclean_ends: Sequence[UncleanEnd] = ()
    canary_requests: int = 0
    """That this process has observed."""
    state_bytes: int = 0
    appended: int | None = None
    """Bytes behind the state; None while nothing may be appended: the file is another process's, or a write
    failed."""
    is_behind: bool = False
    """Whether a write failed, and no new state was written since."""


class EvidenceFiles:
    """Reads and writes them. Only the gateway that has the directory's lock does: `open`, then `write`."""

    def __init__(self, identity: GatewayId) -> None:
        """`identity` is that of this process in what it writes."""
        self.wanted: dict[str, float] = {}
        """Runs, by key, of which a new state is wanted, and from which moment of the monotonic clock on. May
        be read, and entries be removed, by another thread."""
        self._identity = identity
        self._folder = Path()
        self._runs: dict[str, _Run] = {}
        self._ended = False

    @property
    def is_behind(self) -> bool:
        """Whether some run is not on disk as it was handed over: a write failed, and no state caught up."""
        return any(run.is_behind for run in self._runs.values())

    def open(self, directory: Path) -> FoundEvidence:
        """Read what is in a state directory, except for what this process wrote.

        What is no evidence is renamed; what a writer that was killed left half done goes. Raises OSError,
        also where one file can not be read now: nothing is renamed then.
        """
        self._folder = directory / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found: dict[str, FoundFile] = {}
        refused: list[tuple[Path, str]] = []
        for path in sorted(self._folder.iterdir()):
            if path.name.endswith(_NEW):
                with suppress(OSError):
                    path.unlink()
            elif _NAME.fullmatch(path.name):
                try:
                    found[path.name] = _read(path)
                except EvidenceRefused as error:
                    refused.append((path, str(error)))
        aside = [(f"{FOLDER}/{set_aside(path)}", why) for path, why in refused]
        for run in self._runs.values():
            run.appended, run.is_behind = None, False
        others = {key: one for key, one in found.items() if one.header.process != self._identity.process}
        for key, one in others.items():
            self._runs[key] = _Run(one.run.number, one.unclean_ends)
        return FoundEvidence(stored(others), aside)

    def takes(self, change: Change) -> bool:
        """Whether to `write` it: else it adds to what is not there, or is of a run that is over."""
        match change:
            case Append(run) | Seal(run):
                kept = self._runs.get(run.key)
                return kept is not None and kept.number == run.number and kept.appended is not None
            case Replace(run):
                return run.key not in self._runs or self._runs[run.key].number <= run.number
            case Forget(run):
                return run.key in self._runs and self._runs[run.key].number <= run.number
            case End():
                return True

    def write(self, change: Change) -> None:
        """Have one change on disk. Raises OSError, and whatever an error of ours raises; a new state is asked
        for then."""
        try:
            self._write(change)
        except Exception:
            if isinstance(change, Append | Seal | Replace) and (kept := self._runs.get(change.run.key)):
                self._failed(change.run.key, kept)
            raise

    def _write(self, change: Change) -> None:
        match change:
            case Append(run, cell, delta):
                self._runs[run.key].canary_requests += _canary_requests(delta)
                self._append(run.key, encode_own(cell, delta))
            case Seal(run, cell, others):
                self._append(run.key, encode_sealed(cell, others))
            case Replace():
                self._replace(change)
            case Forget(run):
                self._drop(run.key)
            case End():
                self._end()

    def _end(self) -> None:
        self._ended = True
        failed: OSError | None = None
        for key, kept in self._runs.items():
            if kept.appended is not None:
                try:
                    self._append(key, encode_end())
                except OSError as error:  # that of another run may still find room
                    failed = error
        if failed is not None:
            raise failed

    def _append(self, key: str, content: bytes) -> None:
        kept = self._runs[key]
        assert kept.appended is not None
        try:
            # Opened each time: a file that somebody removed or replaced is no longer written to.
            descriptor = open_file(self._folder / key, os.O_WRONLY | os.O_APPEND)
            try:
                _append_whole(descriptor, content, kept.state_bytes + kept.appended)
            finally:
                os.close(descriptor)
        except OSError:
            self._failed(key, kept)
            raise
        kept.appended += len(content)
        if kept.appended > kept.state_bytes:
            self.wanted.setdefault(key, time.monotonic())

    def _replace(self, change: Replace) -> None:
        run = change.run
        kept = self._runs.get(run.key)
        if kept is None or kept.number < run.number:
            # An operator reset the breaker: what was before it says nothing of what is there now.
            kept = _Run(run.number)
        unsealed = sum(_canary_requests(delta) for _, delta in change.unsealed)
        if kept.appended is None:
            kept.canary_requests += unsealed
        sealed = max(0, kept.canary_requests - unsealed)
        identity = self._identity
        header = header_of(
            run,
            change.subject,
            identity.process,
            identity.host,
            sealed,
            change.verdict_cell,
            kept.unclean_ends,
        )
        content, state_bytes = encode_file(header, change.state, change.unsealed)
        if self._ended:
            content += encode_end()
        self._runs[run.key] = kept
        try:
            self._write_new(run.key, content)
        except OSError:
            self._failed(run.key, kept)
            raise
        kept.state_bytes, kept.appended = state_bytes, len(content) - state_bytes
        kept.is_behind = False
        self.wanted.pop(run.key, None)

    def _write_new(self, key: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._folder / key, content, self._folder / f"{key}{_NEW}")

    def _failed(self, key: str, kept: _Run) -> None:
        kept.appended, kept.is_behind = None, True
        self.wanted[key] = time.monotonic() + AGAIN_SECONDS

    def _drop(self, key: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._folder / key)
        del self._runs[key]
        self.wanted.pop(key, None)


def _canary_requests(delta: RunCell) -> int:
    return sum(record.canary.requests for record in delta.records)


def stored(found: Mapping[str, FoundFile]) -> StoredEvidence:
    """What files hold, by key of their run, as the next process takes it up."""
    runs = {
        key: StoredRun(
            one.run,
            one.subject,
            one.state,
            one.header.verdict_cell,
            one.sealed,
            one.unclean_ends,
            went_down=not one.clean,
        )
        for key, one in found.items()
    }
    return StoredEvidence(runs, tuple(_ended(found)))


def _ended(found: Mapping[str, FoundFile]) -> Iterator[EndedProcess]:
    by_process: dict[str, list[tuple[str, FoundFile]]] = defaultdict(list)
    for key, one in found.items():
        by_process[one.header.process].append((key, one))
    for process, files in by_process.items():
        batches: dict[int, Batch] = {}
        for key, one in files:
            for cell, part in one.unsealed:
                batch = batches.setdefault(cell, Batch(process, cell))
                batch.runs[key] = one.run.number, part
        in_order = [batches[cell] for cell in sorted(batches)]
        yield EndedProcess(process, files[0][1].header.host, all(one.clean for _, one in files), in_order)


def _read(path: Path) -> FoundFile:
    """Raises EvidenceRefused, also where it is no plain file, and OSError where it can not be read now."""
    try:
        with open(open_file(path, os.O_RDONLY), "rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        if error.errno not in _NO_PLAIN_FILE:
            raise
        raise EvidenceRefused(error.strerror or type(error).__name__) from error
    if len(content) > MOST_FILE_BYTES:
        raise EvidenceRefused(f"it is larger than {MOST_FILE_BYTES >> 20} MiB")
    found = decode_file(content)
    if found.header.key != path.name:
        raise EvidenceRefused("it is that of another run")
    return found


def _append_whole(descriptor: int, content: bytes, at: int) -> None:
    """Write `content` behind the first `at` bytes of a file, or nothing. Raises OSError."""
    if os.fstat(descriptor).st_size != at:
        raise OSError(errno.ESTALE, "the file was replaced")
    try:
        write_all(descriptor, content)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, at)
        raise
