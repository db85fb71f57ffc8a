"""The state directory as the event loop sees it: nothing here waits for the disk, what is said of it is."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.adapters.state import caps_file, disk
from router.adapters.state.evidence_files import EvidenceFiles, FoundEvidence
from router.adapters.state.evidence_log import EvidenceLog
from router.adapters.state.journal_files import OpenedJournal
from router.control.journal import ChainEnd, Journal
from router.core.caps import CapRecord, Caps, CapTarget
from router.core.events import Recorder
from router.core.ids import GatewayId
from router.core.state_events import (
    JournalCut,
    StateDurable,
    StateNotDurable,
    StateSetAside,
    StateWriteFailed,
)

START_SECONDS = 5.0
"""The longest that a start waits for the caps of the last gateway; should they come later they count then."""
ANSWER_SECONDS = 1.5
"""A disk that takes longer for one piece of work does not answer; and the longest that a save, or a stop,
waits for it."""
MOST_LINES = 10_000
MOST_BYTES = 8 << 20
"""Of lines that wait for the disk. What is above them is only in the log."""
NO_ANSWER = "the disk of the state directory does not answer"


CapsFollower = Callable[[Mapping[CapTarget, CapRecord]], object]


class StateDirectory:
    """Implements `LineStore`: caps, journal and evidence of one gateway, on disk as far as that is possible.

    `start`, then `follow_caps` and `write_journal`, and `close` at the end. One of several gateways that use
    the same directory writes journal and evidence; all of them read and write the caps, and follow what the
    others wrote within a second or two.
    """

    def __init__(
        self, named: Path | None, why_none: str, name: str, recorder: Recorder, identity: GatewayId
    ) -> None:
        """`named` by the configuration; None where there is no place for one, and `why_none`. `name` is that
        of this gateway in the journal, and `identity` its own in the evidence."""
        self.identity = identity
        self.directory = named
        """Where it is; None where it is nowhere. Known for certain when `start` is over."""
        self.caps = Caps()
        """What was on disk when it was last read or written."""
        self.held_by = ""
        """Name of the gateway that writes the journal; empty when it is this one, or nobody."""
        self._why_none = why_none
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        files = EvidenceFiles(identity)
        self._disk = disk.StateDisk(named, name, files, self._from_thread) if named is not None else None
        self.evidence = EvidenceLog(self._disk, files.wanted)
        """What is known of runs; it keeps nothing where there is no directory."""
        self._looked: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._problem = ""
        self._reported = ""
        """The reason that was last reported; empty while it was durable."""
        self._follow_caps: CapsFollower | None = None
        self._journal: Journal | None = None
        self._session = 0
        """0 while no lines are kept."""
        self._end: ChainEnd | None = None
        """Of the session that began before there was a journal."""
        self._former_holder = ""
        self._handed_lines = self._handed_bytes = 0
        self._saves: dict[int, asyncio.Future[str]] = {}
        """Those that wait for an answer, by number."""
        self._number = 0
        self._started = False

    @property
    def durable(self) -> bool:
        """Whether all that changes here is on disk, or is in a moment."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why it is not durable; empty when it is."""
        if self._disk is None:
            return self._why_none
        if self._disk.busy_seconds > ANSWER_SECONDS or not self._looked.done():
            return NO_ANSWER
        if self._problem:
            return self._problem
        if self.held_by:
            return f"state held by {', pid '.join(self.held_by.rsplit(':', 1))}"
        return "" if self._session else "the journal is not open yet"

    def describe(self) -> dict[str, Any]:
        """JSON-ready, for `/v1/state`; it names no path."""
        reason = self.reason
        return {"durable": not reason, "reason": reason, "held_by": self.held_by or None}

    async def start(self) -> None:
        """Read what the last gateway left. Returns within `START_SECONDS`, whatever the disk does."""
        if self._disk is not None:
            try:
                self._disk.start()
            except RuntimeError:
                self._disk, self._why_none = None, "there is no thread for it"
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(self._looked), START_SECONDS)
        self._started = True
        self._report_reason()

    def follow_caps(self, follower: CapsFollower) -> None:
        """From now on `follower` gets the caps on disk when another gateway changed them."""
        self._follow_caps = follower

    def write_journal(self, journal: Journal) -> None:
        """Keep the lines of `journal`, as soon and as long as that is possible. Before it is started."""
        self._journal = journal
        if self._end is not None:
            journal.resume(self, self._end, cause="start", details={})

    async def save(self, caps: Caps) -> str:
        """Have `caps` on disk, merged with what other gateways wrote; why that is not so, empty when it is.

        It returns within `ANSWER_SECONDS`. What is not written by then, also because it was cancelled, is
        written when it can be.
        """
        if self._disk is None:
            return self.reason
        self._number += 1
        number = self._number
        done: asyncio.Future[str] = self._loop.create_future()
        self._saves[number] = done
        self._disk.save(number, caps)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await done
        except TimeoutError:
            return NO_ANSWER
        finally:
            self._saves.pop(number, None)

    def append(self, line: bytes, *, at: float, begins_file: bool, sync: bool) -> None:
        """Write one line of the journal, soon."""
        if self._disk is None or not self._session:
            return
        waiting = self._handed_lines - self._disk.lines_done
        if not waiting:
            self._handed_bytes = 0
        if waiting >= MOST_LINES or self._handed_bytes + len(line) > MOST_BYTES:
            self._end_session(self._session, at)
            self._disk.reopen()
            return
        self._handed_lines += 1
        self._handed_bytes += len(line)
        self._disk.append(disk.Line(self._session, line, at, begins_file, sync))

    async def tick(self) -> None:
        """Report whether what changes is durable, if that is not as it was; have the journal look, too."""
        self._report_reason()
        if self._journal is not None:
            await self._journal.tick()

    async def close(self) -> None:
        """Finish writing and free the directory, as far as the disk does so in time."""
        if self._disk is not None:
            self._disk.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._closed), ANSWER_SECONDS)

    # Reports of the thread

    def _from_thread(self, report: disk.Report) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._take, report)

    def _take(self, report: disk.Report) -> None:
        match report:
            case disk.Opened(directory):
                self.directory = directory
            case caps_file.FoundCaps():
                self._found_caps(report)
            case disk.CapsSaved(numbers, why_not):
                self._answer_saves(numbers, why_not)
            case disk.HeldBy(holder):
                self._former_holder, self.held_by = self.held_by, holder
            case disk.JournalReady() | disk.JournalLost():
                self._take_of_journal(report)
            case FoundEvidence() | disk.EvidenceLost():
                self._take_of_evidence(report)
            case disk.Problems(by_kind):
                self._found_problems(list(by_kind.values()))
            case disk.Failed(error):
                self._recorder.record(StateWriteFailed(error))
            case disk.Looked():
                self._looked.set_result(None)
            case disk.Closed():
                self._closed.set_result(None)

    def _take_of_journal(self, report: disk.JournalReady | disk.JournalLost) -> None:
        if isinstance(report, disk.JournalLost):
            self._end_session(report.session, report.since)
            return
        self._session = report.session
        self._opened(report.opened)
        self._report_reason()

    def _take_of_evidence(self, report: FoundEvidence | disk.EvidenceLost) -> None:
        if isinstance(report, disk.EvidenceLost):
            self.evidence.end()
            return
        for name, why in report.set_aside:
            self._recorder.record(StateSetAside(name, why))
        self.evidence.begin(report.stored)

    def _found_problems(self, problems: list[str]) -> None:
        self._problem = "; ".join(problems)
        if problems:  # that nothing is wrong any more is known with the next session of the journal
            self._report_reason()

    def _found_caps(self, found: caps_file.FoundCaps) -> None:
        if found.unreadable:
            self._recorder.record(StateSetAside(found.set_aside or caps_file.NAME, found.unreadable))
        self.caps = self.caps.merged(found.caps.records)
        if self._follow_caps is not None:
            self._follow_caps(found.caps.records)

    def _opened(self, opened: OpenedJournal) -> None:
        if opened.cut:
            self._recorder.record(JournalCut(opened.cut))
        if opened.set_aside:
            self._recorder.record(StateSetAside(opened.set_aside, opened.unreadable))
        if self._journal is None:
            self._end = opened.end
            return
        cause, details = "catch_up", {}
        if self._former_holder:
            cause, details = "lock_taken", {"from": self._former_holder}
        self._former_holder = ""
        self._journal.resume(self, opened.end, cause=cause, details=details)

    def _end_session(self, session: int, since: float | None) -> None:
        if session != self._session:
            return
        self._session = 0
        self._end = None
        if self._journal is not None:
            self._journal.suspend(since)

    def _answer_saves(self, numbers: tuple[int, ...], why_not: str) -> None:
        for number in numbers:
            done = self._saves.get(number)
            if done is not None and not done.done():
                done.set_result(why_not)

    def _report_reason(self) -> None:
        reason = self.reason
        if reason != self._reported and self._started:
            self._reported = reason
            self._recorder.record(StateNotDurable(reason) if reason else StateDurable())
