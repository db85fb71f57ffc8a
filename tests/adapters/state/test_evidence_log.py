"""Evidence in a state directory under an event loop, which waits neither for the disk nor for others."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from router.adapters.state import disk, evidence_files, evidence_log, state_directory
from router.adapters.state.directory import own_directory
from router.adapters.state.evidence_files import FOLDER
from router.adapters.state.state_directory import StateDirectory
from router.analysis.evidence_sink import StoredEvidence
from router.analysis.run_file import decode_file
from router.analysis.statistics.records import RunId
from router.core.caps import Caps
from router.core.ids import GatewayId
from router.core.state_events import StateSetAside
from tests.adapters.conftest import Facts
from tests.support.evidence import RUN, SUBJECT, a_state, observed, subject
from tests.support.waiting import until

STATE = a_state()
FIRST_CELL = STATE.horizon + 1


class OneGateway:
    """What of a gateway keeps evidence."""

    def __init__(self, named: Path | None, number: int) -> None:
        self.facts = Facts()
        self.found: list[StoredEvidence] = []
        identity = GatewayId(f"{number:016x}", f"gw-{number}")
        self.state = StateDirectory(named, "no home", f"gw-{number}:{number}", self.facts, identity)
        self.log = self.state.evidence

    async def start(self) -> "OneGateway":
        await self.state.start()
        self.log.follow(self)
        return self

    def take_stored(self, stored: StoredEvidence) -> None:
        self.found.append(stored)

    def begin(self) -> None:
        self.log.replace(RUN, SUBJECT, STATE, FIRST_CELL, [])

    def observe(self, cell: int = FIRST_CELL) -> None:
        self.log.append(RUN, cell, observed())

    def cells(self) -> list[int]:
        """Of processes before it, those of which something is in no state."""
        return [batch.cell for stored in self.found for one in stored.ended for batch in one.batches]


Start = Callable[..., Awaitable[OneGateway]]


@pytest_asyncio.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts gateways on one directory, and ends them. They look every 20 ms."""
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.02)
    async with AsyncExitStack() as stack:

        async def started(number: int, named: Path | None = tmp_path / "state") -> OneGateway:
            gateway = await OneGateway(named, number).start()
            stack.push_async_callback(gateway.state.close)
            return gateway

        yield started


async def test_what_was_kept_is_there_when_the_next_one_has_started(start: Start) -> None:
    first = await start(1)
    assert first.found == [StoredEvidence()]
    assert first.log.needs_state(RUN)
    first.begin()
    assert not first.log.needs_state(RUN)
    first.observe()
    first.log.seal(RUN, FIRST_CELL, {"9" * 16: observed()})
    first.observe(FIRST_CELL + 1)
    first.log.note_clean_end()
    await first.state.close()

    second = await start(2)

    [stored] = second.found
    run = stored.runs[RUN.key]
    assert [(cell, len(parts)) for cell, parts in run.sealed] == [(FIRST_CELL, 2)]
    assert (second.cells(), stored.ended[0].clean) == ([FIRST_CELL + 1], True)


async def test_a_second_gateway_keeps_nothing_until_the_first_one_has_ended_and_then_finds_all(
    start: Start,
) -> None:
    """As in a rolling update."""
    old = await start(1)
    old.begin()
    old.observe()
    new = await start(2)
    assert new.found == []
    assert not new.log.needs_state(RUN), "who has no directory is not asked to dump states"
    new.begin()
    new.observe(FIRST_CELL + 7)
    old.observe(FIRST_CELL + 1)
    old.log.note_clean_end()
    await old.state.close()

    await until(lambda: new.found)
    assert new.cells() == [FIRST_CELL, FIRST_CELL + 1]
    assert new.log.needs_state(RUN)
    new.begin()
    new.observe(FIRST_CELL + 7)
    await new.state.close()
    assert (await start(3)).cells() == [FIRST_CELL + 7]


async def test_without_a_place_nothing_is_kept_and_nothing_wanted(start: Start) -> None:
    gateway = await start(1, named=None)
    gateway.begin()
    gateway.observe()
    gateway.log.note_clean_end()
    gateway.log.forget(RUN)

    assert not gateway.log.needs_state(RUN)
    assert gateway.found == []


async def test_what_can_not_be_read_is_named(start: Start, tmp_path: Path) -> None:
    folder = own_directory(tmp_path / "state") / FOLDER
    folder.mkdir()
    (folder / RUN.key).write_text("mine")

    gateway = await start(1)

    [event] = gateway.facts.of(StateSetAside)
    assert isinstance(event, StateSetAside)
    assert event.why == "it is no evidence"
    assert (tmp_path / "state" / event.name).read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
async def test_a_disk_that_takes_nothing_is_reported_and_a_state_catches_up(
    start: Start, failing: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(evidence_files, "AGAIN_SECONDS", 0.05)
    gateway = await start(1)
    gateway.begin()
    failing(code)
    gateway.observe()

    await until(lambda: "evidence can not be read or written" in gateway.state.reason)
    await until(lambda: gateway.log.needs_state(RUN))
    failing(0)
    gateway.begin()
    gateway.observe(FIRST_CELL + 3)

    await until(lambda: "evidence" not in gateway.state.reason)
    await gateway.state.close()
    assert (await start(2)).cells() == [FIRST_CELL + 3]


async def test_what_can_not_be_encoded_ends_nothing_but_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an integer that no worker of ours says."""
    monkeypatch.setattr(evidence_files, "AGAIN_SECONDS", 0.05)
    gateway = await start(1)
    gateway.begin()
    delta = observed()
    delta.records[0].production.requests = 1 << 64
    gateway.log.append(RUN, FIRST_CELL, delta)

    await until(lambda: "evidence can not be read or written: an error" in gateway.state.reason)
    assert await gateway.state.save(Caps()) == ""
    await until(lambda: gateway.log.needs_state(RUN))
    gateway.begin()
    gateway.observe(FIRST_CELL + 3)
    await until(lambda: "evidence" not in gateway.state.reason)
    await gateway.state.close()
    assert (await start(2)).cells() == [FIRST_CELL + 3]


async def test_an_error_outside_of_any_try_ends_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(1)

    def fails(*_: object) -> bool:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(evidence_files.EvidenceFiles, "takes", fails)
        gateway.begin()
        await until(lambda: not gateway.log._waiting())
    gateway.begin()
    gateway.observe()
    await gateway.state.close()
    assert (await start(2)).cells() == [FIRST_CELL]


async def test_what_one_run_can_write_does_not_hide_that_another_one_can_not(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk small pieces still find room, and states do not."""
    monkeypatch.setattr(evidence_files, "AGAIN_SECONDS", 0.05)
    gateway = await start(1)
    other = RunId(subject(9).key, 1)
    in_the_way = tmp_path / "state" / FOLDER / f"{other.key}.new"
    in_the_way.mkdir()
    gateway.begin()
    gateway.log.replace(other, subject(9), STATE, FIRST_CELL, [])
    await until(lambda: "evidence can not be read or written" in gateway.state.reason)

    for cell in range(FIRST_CELL, FIRST_CELL + 3):
        gateway.observe(cell)
    file = tmp_path / "state" / FOLDER / RUN.key
    await until(lambda: len(decode_file(file.read_bytes()).unsealed) == 3)
    assert (await gateway.state.save(Caps())) == "", "all before it is written, and reported"
    assert "evidence can not be read or written" in gateway.state.reason

    in_the_way.rmdir()
    gateway.log.replace(other, subject(9), STATE, FIRST_CELL, [])
    await until(lambda: "evidence" not in gateway.state.reason)


async def test_a_read_only_directory_ends_nothing(start: Start, tmp_path: Path) -> None:
    """As root may write anywhere, a file stands in the way."""
    (own_directory(tmp_path / "state") / FOLDER).write_text("")
    gateway = await start(1)

    assert gateway.found == []
    assert "evidence can not be read or written: File exists" in gateway.state.reason
    (tmp_path / "state" / FOLDER).unlink()
    await until(lambda: gateway.found)


async def test_a_disk_that_hangs_holds_up_nobody_and_what_waits_is_bounded(
    start: Start, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    monkeypatch.setattr(evidence_log, "MOST_WAITING", 50)
    monkeypatch.setattr(state_directory, "ANSWER_SECONDS", 0.2)
    gateway = await start(1)
    gateway.begin()
    go_on = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: go_on.wait() and fsync(descriptor))
    gateway.begin()
    began = time.monotonic()
    for _ in range(1_000):
        gateway.observe()
    assert time.monotonic() - began < slack
    assert gateway.log._waiting() <= 50
    assert not gateway.log.needs_state(RUN), "a state that nobody takes is not dumped"

    go_on.set()
    await until(lambda: gateway.log.needs_state(RUN))
    gateway.begin()
    gateway.observe(FIRST_CELL + 9)
    await gateway.state.close()
    assert (await start(2)).cells() == [FIRST_CELL + 9]


async def test_caps_do_not_wait_for_states(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start(1)
    written: list[str] = []
    go_on = threading.Event()
    replaced, saved = evidence_files.EvidenceFiles._replace, disk.StateDisk._write_unsaved

    def replace(self: evidence_files.EvidenceFiles, change: evidence_files.Replace) -> None:
        go_on.wait()
        written.append("state")
        replaced(self, change)

    def save(self: disk.StateDisk) -> None:
        if self._unsaved is not None:
            written.append("caps")
        saved(self)

    monkeypatch.setattr(evidence_files.EvidenceFiles, "_replace", replace)
    monkeypatch.setattr(disk.StateDisk, "_write_unsaved", save)
    for _ in range(5):
        gateway.begin()
    saving = asyncio.ensure_future(gateway.state.save(gateway.state.caps))
    await asyncio.sleep(0)
    go_on.set()

    assert await saving == ""
    await until(lambda: written.count("state") == 5)
    assert written.index("caps") <= 1


async def test_a_run_that_is_forgotten_leaves_no_file_and_a_higher_number_takes_over(
    start: Start, tmp_path: Path
) -> None:
    gateway = await start(1)
    file = tmp_path / "state" / FOLDER / RUN.key
    gateway.begin()
    await until(file.exists)
    again = RunId(RUN.key, 2)
    assert gateway.log.needs_state(again)
    gateway.log.append(again, FIRST_CELL, observed())
    gateway.log.replace(again, SUBJECT, STATE, FIRST_CELL, [])
    gateway.observe()
    gateway.log.forget(RUN)
    await until(lambda: gateway.log._waiting() == 0)
    assert file.exists()
    assert gateway.log.needs_state(again) is False

    gateway.log.forget(again)
    await until(lambda: not file.exists())
