"""The state directory under an event loop, which waits neither for the disk nor for other gateways."""

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from router.adapters.state import directory as on_disk
from router.adapters.state import disk, state_directory
from router.adapters.state.caps_file import NAME, CapsFile, encode
from router.adapters.state.directory import LOCK, WriterLock, directories_in_use, own_directory
from router.adapters.state.state_directory import NO_ANSWER, StateDirectory
from router.control.journal import Journal
from router.core.caps import Caps
from router.core.events import ConfigApplied
from router.core.ids import GatewayId
from router.core.journal import decode, digest_of
from router.core.routing import RoutingTable
from router.core.state_events import StateDurable, StateNotDurable, StateSetAside, StateWriteFailed
from tests.adapters.conftest import Facts
from tests.adapters.state.examples import V8, V9, capped
from tests.support.journals import entries_of
from tests.support.waiting import until

NUMBERS = count(1)
"""Of processes."""


class NoModels:
    table = RoutingTable({})


class OneGateway:
    """What of a gateway uses the directory."""

    def __init__(self, named: Path | None, name: str) -> None:
        self.facts = Facts()
        self.found: list[Caps] = []
        self.logged: list[bytes] = []
        identity = GatewayId(f"{next(NUMBERS):016x}", name.partition(":")[0])
        self.state = StateDirectory(named, "no home", name, self.facts, identity)
        self.journal = Journal(name, self.logged.append)

    async def start(self) -> "OneGateway":
        await self.state.start()
        self.state.follow_caps(lambda records: self.found.append(Caps(records)))
        self.state.write_journal(self.journal)
        self.journal.start(NoModels(), {})
        return self

    async def stop(self) -> None:
        self.journal.stop()
        await self.state.close()

    def kinds(self) -> list[type]:
        return [type(event) for event in self.facts.events]


Start = Callable[..., Awaitable[OneGateway]]


@pytest_asyncio.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts gateways on one directory, and ends them. They look every 20 ms."""
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.02)
    async with AsyncExitStack() as stack:

        async def started(name: str = "gw-1:1", named: Path | None = tmp_path / "state") -> OneGateway:
            gateway = await OneGateway(named, name).start()
            stack.push_async_callback(gateway.stop)
            return gateway

        yield started


def causes(named: Path) -> list[tuple[str, str]]:
    return [(entry.gateway, entry.cause) for entry in entries_of(named)]


def caps_on_disk(named: Path) -> Caps:
    found = CapsFile(named).read()
    assert found is not None
    return found.caps


async def test_what_was_saved_is_there_after_a_restart(start: Start, tmp_path: Path) -> None:
    first = await start()
    assert await first.state.save(capped(V8)) == ""
    assert first.state.describe() == {"durable": True, "reason": "", "held_by": None}
    await first.stop()

    second = await start("gw-1:2")

    assert second.state.caps == capped(V8)
    await until(lambda: len(causes(tmp_path / "state")) == 3)
    assert causes(tmp_path / "state") == [("gw-1:1", "start"), ("gw-1:1", "stop"), ("gw-1:2", "start")]
    assert first.journal.head == digest_of(first.logged[-1])
    assert second.facts.events == []


async def test_a_second_gateway_waits_follows_the_caps_and_writes_when_the_first_one_ends(
    start: Start, tmp_path: Path
) -> None:
    old = await start("gw-1:1")
    await old.state.save(capped(V8))
    new = await start("gw-2:2")

    assert new.state.caps == capped(V8), "set before"
    assert new.state.describe() == {
        "durable": False,
        "reason": "state held by gw-1, pid 1",
        "held_by": "gw-1:1",
    }
    assert new.facts.of(StateNotDurable) == [StateNotDurable("state held by gw-1, pid 1")]
    both = Caps({**capped(V8).records, **capped(V9).records})
    assert await new.state.save(both) == "", "caps are shared, whoever writes the journal"
    await until(lambda: old.found[-1:] == [both])
    later = Caps({**both.records, **capped(V8, share=None, counter=2).records})
    assert await old.state.save(later) == ""
    await until(lambda: new.found[-1:] == [later])

    began = time.time()
    await old.stop()

    await until(lambda: new.state.durable)
    assert new.state.held_by == ""
    await until(lambda: ("gw-2:2", "lock_taken") in causes(tmp_path / "state"))
    taken = entries_of(tmp_path / "state")[-1]
    assert taken.details["from"] == "gw-1:1"
    assert taken.details["since"] <= began, "its own lines until now are in no file"
    assert isinstance(new.facts.events[-1], StateDurable)
    assert caps_on_disk(tmp_path / "state") == later


def test_whoever_finds_the_lock_taken_reads_by_whom_also_while_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = WriterLock(tmp_path, "gw-11:4711"), WriterLock(tmp_path, "gw-2:2")
    assert old.take()
    close, seen = os.close, []

    def look_before_it_closes(descriptor: int) -> None:
        monkeypatch.setattr(os, "close", close)
        seen.append((new.take(), new.holder()))
        close(descriptor)

    monkeypatch.setattr(os, "close", look_before_it_closes)
    old.release()

    assert seen == [(False, "gw-11:4711")]
    assert (new.take(), new.holder()) == (True, "gw-2:2")


async def test_the_lock_ends_with_the_process_that_holds_it(start: Start, tmp_path: Path) -> None:
    """As after kill −9: nobody removed anything."""
    own_directory(tmp_path / "state")
    code = (
        "import sys, time; from pathlib import Path;"
        "from router.adapters.state.directory import WriterLock;"
        "lock = WriterLock(Path(sys.argv[1]), 'gw-0:9'); print(lock.take(), flush=True); time.sleep(600)"
    )
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "state"), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"True\n"
    gateway = await start("gw-1:1")
    assert gateway.state.held_by == "gw-0:9"

    holder.kill()
    await holder.wait()

    await until(lambda: gateway.state.durable)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_disk_that_takes_nothing_is_reported_and_caught_up_with(
    start: Start, tmp_path: Path, failing: Callable[[int], None], code: int
) -> None:
    gateway = await start()
    await until(lambda: causes(tmp_path / "state") == [("gw-1:1", "start")])
    failing(code)

    why_not = await gateway.state.save(capped(V8))

    assert why_not == f"the caps can not be read or written: {os.strerror(code)}"
    assert gateway.state.reason == why_not
    assert not gateway.state.durable
    await until(lambda: len(gateway.facts.of(StateWriteFailed)) > 2)
    assert len(gateway.facts.of(StateNotDurable)) == 1, "said once"

    failing(0)

    await until(lambda: gateway.state.durable)
    assert caps_on_disk(tmp_path / "state") == capped(V8)


async def test_lines_that_could_not_be_written_leave_a_chain_that_is_whole(
    start: Start, tmp_path: Path, failing: Callable[[int], None]
) -> None:
    gateway = await start()
    await until(lambda: causes(tmp_path / "state") == [("gw-1:1", "start")])
    failing(errno.ENOSPC)
    gateway.journal.record(ConfigApplied("0f", ()))

    await until(lambda: not gateway.state.durable)
    assert "journal can not be written" in gateway.state.reason
    failing(0)

    await until(lambda: gateway.state.durable)
    await until(lambda: len(causes(tmp_path / "state")) == 2)
    caught_up = entries_of(tmp_path / "state")[-1]
    assert caught_up.cause == "catch_up"
    assert caught_up.details["since"] == decode(gateway.logged[1])[0].at, "the first that is missing"
    assert len(gateway.logged) == 3, "the log has every line"


async def test_a_directory_that_can_not_be_made_ends_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    gateway = await start(named=tmp_path / "file" / "state")

    assert gateway.state.reason == "the state directory can not be used: File exists"
    assert await gateway.state.save(capped()) == gateway.state.reason
    (tmp_path / "file").unlink()
    await until(lambda: gateway.state.durable)
    assert caps_on_disk(tmp_path / "file" / "state") == capped()


async def test_without_a_place_it_says_so(start: Start) -> None:
    gateway = await start(named=None)

    assert gateway.state.describe() == {"durable": False, "reason": "no home", "held_by": None}
    assert await gateway.state.save(capped()) == "no home"
    assert gateway.facts.events == [StateNotDurable("no home")]


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_who_saves(
    start: Start, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    gateway = await start()
    stopped = threading.Event()
    fsync = os.fsync

    def hanging(descriptor: int) -> None:
        if threading.current_thread().name == "state":
            stopped.wait()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hanging)
    monkeypatch.setattr(state_directory, "ANSWER_SECONDS", 0.2)
    try:
        saved = asyncio.ensure_future(gateway.state.save(capped(V8)))
        turns, began = 0, time.monotonic()
        while not saved.done():
            await asyncio.sleep(0)
            turns += 1
            gateway.state.append(b"{}", at=0.0, begins_file=False, sync=True)
        assert saved.result() == NO_ANSWER
        assert time.monotonic() - began < 0.2 + slack
        assert turns > 100
        await until(lambda: gateway.state.reason == NO_ANSWER)
        assert gateway.state._handed_lines - gateway.state._disk.lines_done <= state_directory.MOST_LINES  # type: ignore[union-attr]
        began = time.monotonic()
        await gateway.state.close()
        assert time.monotonic() - began < 0.2 + slack, "nor a stop"
    finally:
        stopped.set()


async def test_more_lines_than_may_wait_end_the_session_and_the_chain_stays_whole(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start()
    await until(lambda: causes(tmp_path / "state") == [("gw-1:1", "start")])
    monkeypatch.setattr(state_directory, "MOST_LINES", 3)
    go_on = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: go_on.wait() and fsync(descriptor))
    saved = asyncio.ensure_future(gateway.state.save(capped()))  # at which the disk hangs
    await asyncio.sleep(0)
    for _ in range(8):
        gateway.journal.record(ConfigApplied("0f", ()))
    await until(lambda: len(gateway.logged) == 9)

    go_on.set()

    assert await saved == ""
    await until(lambda: ("gw-1:1", "catch_up") in causes(tmp_path / "state"))
    assert len(entries_of(tmp_path / "state")) < len(gateway.logged)


async def test_caps_of_another_format_are_set_aside_by_the_gateway_that_has_the_directory(
    start: Start, tmp_path: Path
) -> None:
    named = own_directory(tmp_path / "state")
    (named / NAME).write_bytes(encode(capped()).replace(b'"format":1', b'"format":2'))

    gateway = await start()

    (event,) = gateway.facts.of(StateSetAside)
    assert isinstance(event, StateSetAside)
    assert b'"format":2' in (named / event.name).read_bytes()
    assert event.why == "format: must be 1, which this version reads"
    assert gateway.state.caps == Caps()


async def test_a_directory_that_is_emptied_is_made_again(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    await gateway.state.save(capped())

    for path in sorted((tmp_path / "state").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()

    await until(lambda: ("gw-1:1", "catch_up") in causes(tmp_path / "state"))
    assert (tmp_path / "state" / LOCK).read_text() == "gw-1:1"
    assert caps_on_disk(tmp_path / "state") == capped(), "what was durable is so again"


async def test_caps_whose_file_is_removed_are_written_again(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    await gateway.state.save(capped())

    (tmp_path / "state" / NAME).unlink()

    await until((tmp_path / "state" / NAME).exists)
    await until(lambda: gateway.state.durable)


def test_the_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    own = own_directory(tmp_path / "above" / "state")

    assert own == tmp_path / "above" / "state"
    assert [path.stat().st_mode & 0o777 for path in (own, own.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o770, 0o1777, 0o702])
def test_where_others_may_write_it_is_one_in_it_that_is_ours(tmp_path: Path, mode: int) -> None:
    named = tmp_path / "state"
    named.mkdir()
    named.chmod(mode)

    own = own_directory(named)

    assert own == named / str(os.geteuid())
    assert own.stat().st_mode & 0o777 == 0o700
    assert WriterLock(own, "gw").take()
    assert directories_in_use(named) == [own]


def test_one_that_was_used_and_that_others_may_write_to_now_is_refused(tmp_path: Path) -> None:
    """What a gateway wrote must not be forgotten without a word, and not be trusted any more."""
    named = own_directory(tmp_path / "state")
    assert WriterLock(named, "gw").take()
    named.chmod(0o770)

    with pytest.raises(PermissionError, match="others may write to it"):
        own_directory(named)


def test_a_directory_in_it_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    named = tmp_path / "state"
    (named / str(os.geteuid())).mkdir(parents=True)
    named.chmod(0o777)
    (named / str(os.geteuid())).chmod(0o777)

    with pytest.raises(PermissionError, match="others may write to it"):
        own_directory(named)


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    (tmp_path / "state" / str(os.geteuid())).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError):
        own_directory(tmp_path / "state")


def test_a_lock_of_caps_that_is_never_given_up_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_disk, "CAPS_LOCK_SECONDS", 0.05)
    with on_disk.CapsLock(tmp_path), pytest.raises(OSError, match="another gateway is writing them"):
        CapsFile(tmp_path).write(capped(), 0.0)
