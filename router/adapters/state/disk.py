"""What one gateway does in its state directory: in a thread of its own, which reports what happened."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from router.adapters.state.caps_file import CapsFile, FoundCaps
from router.adapters.state.directory import WriterLock, own_directory
from router.adapters.state.evidence_files import Change, EvidenceFiles, FoundEvidence
from router.adapters.state.journal_files import JournalFiles, OpenedJournal
from router.core.caps import Caps

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the directory: for the lock, for caps of other gateways, and after a failure."""
MOST_SAVES = 100
"""Changes of the caps that wait one by one; beyond it they become one."""

Kind = Literal["directory", "caps", "lock", "journal", "evidence"]
SENTENCES: Mapping[Kind, str] = {
    "directory": "the state directory can not be used",
    "caps": "the caps can not be read or written",
    "lock": "the lock of the state directory can not be taken",
    "journal": "the journal can not be written",
    "evidence": "the evidence can not be read or written",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """The state is in `directory`, which is that of the configuration or one in it."""

    directory: Path


@dataclass(frozen=True, slots=True)
class CapsSaved:
    """Saves of caps, by number, are on disk; or not yet, and why."""

    numbers: tuple[int, ...]
    why_not: str


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Another gateway writes the journal."""

    holder: str
    """Empty from when on none does."""


@dataclass(frozen=True, slots=True)
class JournalReady:
    """Lines of this session are written from now on."""

    session: int
    opened: OpenedJournal


@dataclass(frozen=True, slots=True)
class JournalLost:
    """Lines of this session are no longer written."""

    session: int
    since: float | None
    """Time of the first that was not, in seconds since 1970; None where all were that came so far."""


@dataclass(frozen=True, slots=True)
class EvidenceLost:
    """Evidence is no longer written, and what is there may be changed by others."""


@dataclass(frozen=True, slots=True)
class Problems:
    """What is wrong from now on, by kind; empty when nothing is."""

    by_kind: Mapping[Kind, str]


@dataclass(frozen=True, slots=True)
class Failed:
    """One try failed."""

    error: str


@dataclass(frozen=True, slots=True)
class Looked:
    """The first look is over."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing is written any more, and the lock is free."""


Report = (
    Opened
    | FoundCaps
    | CapsSaved
    | HeldBy
    | JournalReady
    | JournalLost
    | FoundEvidence
    | EvidenceLost
    | Problems
    | Failed
    | Looked
    | Closed
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the journal that is to be written."""

    session: int
    """It is left out when this session is over."""
    line: bytes
    at: float
    """Its time, in seconds since 1970."""
    begins_file: bool
    sync: bool
    """Whether it has to outlive a crash of the machine."""


_Job = Line | Change | Literal["save", "reopen", "close"]


class StateDisk:
    """One thread that reads and writes; the methods hand it work and return at once.

    Another gateway's lock, a full disk or one that is read-only ends nothing: what can be done is done, the
    rest is tried again at every look; so it is with an error of ours, which is logged. Work is done in the
    order in which it came.
    """

    def __init__(
        self, named: Path, name: str, evidence: EvidenceFiles, report: Callable[[Report], None]
    ) -> None:
        """`named` by the configuration; `name` of this gateway for the lock; `evidence` is used in the thread
        alone; `report` is called in it and must not wait."""
        self._named = named
        self._name = name
        self._evidence = evidence
        self._report = report
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._saves: deque[tuple[tuple[int, ...], Caps]] = deque()
        self._busy_since: float | None = None
        self._lines_done = 0
        self._changes_done = 0
        # Of the thread alone:
        self._directory: Path | None = None
        self._lock: WriterLock
        self._caps: CapsFile
        self._journal: JournalFiles
        self._holder = ""
        self._session = 0
        self._writing = False
        self._keeps_evidence = False
        self._unsaved: tuple[tuple[int, ...], Caps] | None = None
        self._kept = Caps()
        """All that was seen on disk, in case that somebody removes it."""
        self._problems: dict[Kind, str] = {}

    # Called on the event loop

    def start(self) -> None:
        """Begin with a first look. Raises RuntimeError where the system gives no thread."""
        threading.Thread(target=self._run, name="state", daemon=True).start()

    @property
    def busy_seconds(self) -> float:
        """How long the disk has been at one piece of work; 0.0 when it is at none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def lines_done(self) -> int:
        """Lines that were written or left out, of all that were handed over."""
        return self._lines_done

    @property
    def changes_done(self) -> int:
        """Changes of evidence that were written or left out, of all that were handed over."""
        return self._changes_done

    def append(self, line: Line) -> None:
        """Write one line of the journal."""
        self._jobs.put(line)

    def change_evidence(self, change: Change) -> None:
        """Write one change of the evidence."""
        self._jobs.put(change)

    def save(self, number: int, caps: Caps) -> None:
        """Have `caps` on disk, merged with what is there."""
        self._saves.append(((number,), caps))
        if len(self._saves) > MOST_SAVES:  # the disk hangs
            self._saves.append(_joined(self._saves))
        self._jobs.put("save")

    def reopen(self) -> None:
        """End the session: lines were left out, so the chain has to be continued from what is on disk."""
        self._jobs.put("reopen")

    def close(self) -> None:
        """Finish what was handed over, free the lock, and end."""
        self._jobs.put("close")

    # The thread

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:
            self._report(Problems({"directory": "nothing is written any more: an error, see the log"}))
            raise
        finally:
            self._report(Closed())

    def _work(self) -> None:
        self._look()
        self._report(Looked())
        look_at = time.monotonic() + LOOK_SECONDS
        while (job := self._next_job(look_at)) != "close":
            try:
                self._do(job)
            except Exception:  # noqa: BLE001 - the next piece of work can be done all the same
                _log.exception("the state directory: a piece of work failed")
            if time.monotonic() >= look_at:
                self._look()
                look_at = time.monotonic() + LOOK_SECONDS
        self._give_up_directory()

    def _do(self, job: _Job | None) -> None:
        match job:
            case Line():
                try:
                    self._append(job)
                finally:
                    self._lines_done += 1
            case "save":
                self._save()
            case "reopen":
                self._end_session()
            case None | "close":
                pass
            case change:
                try:
                    self._save()  # which do not wait for states to be written
                    self._change_evidence(change)
                finally:
                    self._changes_done += 1

    def _next_job(self, look_at: float) -> _Job | None:
        """None where none came until `look_at`, by the monotonic clock."""
        with suppress(queue.Empty):
            return self._jobs.get(timeout=max(0.0, look_at - time.monotonic()))
        return None

    def _look(self) -> None:
        with self._trying("directory"):
            self._open()
        if self._directory is None:
            return
        with self._trying("lock"):
            self._look_at_lock()
        with self._trying("caps"):
            self._look_at_caps()
        if self._lock.held:
            with self._trying("journal"):
                self._look_at_journal()
            if not self._keeps_evidence:  # else whoever writes next finds out whether that is possible
                with self._trying("evidence"):
                    self._open_evidence(self._directory)

    def _open(self) -> None:
        if self._directory is not None:
            try:
                self._lock.check()
                return
            except OSError:
                self._give_up_directory()
        directory = own_directory(self._named)
        self._lock = WriterLock(directory, self._name)
        self._caps = CapsFile(directory)
        self._journal = JournalFiles(directory)
        self._directory = directory
        self._report(Opened(directory))

    def _look_at_lock(self) -> None:
        holder = "" if self._lock.take() else self._lock.holder() or "another gateway"
        if holder != self._holder:
            self._holder = holder
            self._report(HeldBy(holder))

    def _look_at_caps(self) -> None:
        found = self._caps.read()
        try:
            if self._caps.unreadable and self._lock.held:
                found = self._caps.make_way()
        finally:
            if found is not None:
                self._report(found)
        if found is not None:
            self._kept = self._kept.merged(found.caps.records)
        if self._caps.missing and self._kept.records and self._unsaved is None:
            self._unsaved = (), self._kept
        self._write_unsaved()

    def _look_at_journal(self) -> None:
        if self._writing:
            self._journal.check()
            return
        opened = self._journal.open()
        self._session += 1
        self._writing = True
        self._report(JournalReady(self._session, opened))

    def _open_evidence(self, directory: Path) -> None:
        found = self._evidence.open(directory)
        self._keeps_evidence = True
        self._report(found)

    def _change_evidence(self, change: Change) -> None:
        if self._keeps_evidence and self._evidence.takes(change):
            with self._trying("evidence"):
                self._evidence.write(change)

    def _append(self, line: Line) -> None:
        if self._writing and line.session == self._session:
            with self._trying("journal", of=line.at):
                self._journal.append(line.line, begins_file=line.begins_file, sync=line.sync)

    def _save(self) -> None:
        if not self._saves:
            return
        numbers, caps = _joined(self._saves)
        if self._unsaved is not None:
            caps = caps.merged(self._unsaved[1].records)
        if self._directory is None:
            with self._trying("directory"):
                self._open()
        self._unsaved = numbers, caps
        if self._directory is not None:
            with self._trying("caps"):
                self._write_unsaved()
        if self._unsaved is not None:
            self._report(
                CapsSaved(numbers, self._problems.get("caps") or self._problems.get("directory", ""))
            )

    def _write_unsaved(self) -> None:
        if self._unsaved is None:
            return
        numbers, caps = self._unsaved
        found = self._caps.write(caps, time.time())
        self._unsaved = None
        self._kept = self._kept.merged(found.caps.records)
        if found.caps.records != caps.records or found.unreadable:
            self._report(found)
        self._report(CapsSaved(numbers, ""))

    def _end_session(self, since: float | None = None) -> None:
        if self._writing:
            self._writing = False
            self._journal.close()
            self._report(JournalLost(self._session, since))

    def _give_up_directory(self) -> None:
        if self._directory is not None:
            self._directory = None
            self._end_session()
            if self._keeps_evidence:
                self._keeps_evidence = False
                self._report(EvidenceLost())
            self._lock.release()
            for kind in ("lock", "journal", "evidence"):
                self._problems.pop(kind, None)

    @contextmanager
    def _trying(self, kind: Kind, of: float | None = None) -> Iterator[None]:
        """Notes what goes wrong, and that it went well; `of` is the time of a line that is written."""
        before = self._problems.get(kind)
        self._busy_since = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one of ours must not end the thread
            if isinstance(error, OSError):
                why = error.strerror or type(error).__name__
            else:
                why = "an error, see the log"
                _log.exception("%s", SENTENCES[kind])
            self._problems[kind] = f"{SENTENCES[kind]}: {why}"
            self._report(Failed(self._problems[kind]))
            if kind == "journal":
                self._end_session(of)
        else:
            # What one run could write says nothing of another one, whose write failed.
            if kind != "evidence" or not self._evidence.is_behind:
                self._problems.pop(kind, None)
        finally:
            self._busy_since = None
        if self._problems.get(kind) != before:
            self._report(Problems(dict(self._problems)))


def _joined(saves: deque[tuple[tuple[int, ...], Caps]]) -> tuple[tuple[int, ...], Caps]:
    """All that waits, as one; taken out one by one, for the other thread does the same."""
    numbers: tuple[int, ...] = ()
    caps = Caps()
    while saves:
        try:
            some, newer = saves.popleft()
        except IndexError:
            break
        numbers, caps = numbers + some, caps.merged(newer.records)
    return numbers, caps
