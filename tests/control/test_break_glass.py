"""Every canary off: by a signal or a file, until the file is gone and somebody resumed."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.adapters.state.off_file import OffFile
from router.control.break_glass import BreakGlassWatch, OffRequest
from tests.support.examples import examples
from tests.support.waiting import until


def off_file(directory: Path) -> OffFile:
    return OffFile(directory, "there is none")


class Switch:
    """What takes the canaries out of the split, and remembers every reason."""

    def __init__(self, *, on: bool = False) -> None:
        self.glass_broken = on
        self.reasons: list[str] = []

    def break_glass(self, *, on: bool, why: str) -> None:
        self.glass_broken = on
        self.reasons.append(why)


class Disk:
    """The files in memory, on a disk that may be full."""

    def __init__(self) -> None:
        self.path = Path("/state/canary-off")
        self.line: str | None = None
        self.full = False
        self.made = 0
        self.held = False

    def is_held(self) -> bool:
        return self.held

    def hold(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.held = True

    def release(self) -> None:
        self.held = False

    def read(self) -> OffRequest | None:
        return None if self.line is None else OffRequest(self.path, self.line)

    def make(self, line: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.made += 1
        self.line = line if self.line is None else self.line


async def test_a_signal_is_in_force_before_anything_is_written(tmp_path: Path) -> None:
    switch, file = Switch(), off_file(tmp_path)
    glass = BreakGlassWatch(switch, file)

    glass.signalled()

    assert switch.glass_broken
    assert not file.path.exists()
    await glass.tick()
    assert file.path.exists()
    assert switch.reasons == ["SIGUSR2 came", f"{file.path} is there: SIGUSR2 came"]


async def test_a_file_turns_them_off_and_its_line_says_why(tmp_path: Path) -> None:
    switch, file = Switch(), off_file(tmp_path)
    glass = BreakGlassWatch(switch, file)
    await glass.tick()
    assert not switch.reasons

    file.path.write_text("anna: errors\n")
    await glass.tick()
    await glass.tick()

    assert switch.glass_broken
    assert switch.reasons == [f"{file.path} is there: anna: errors"]


async def test_they_come_back_when_the_file_is_gone_and_somebody_resumed_in_that_order(
    tmp_path: Path,
) -> None:
    switch, file = Switch(), off_file(tmp_path)
    glass = BreakGlassWatch(switch, file)
    glass.signalled()
    await glass.tick()

    assert await glass.resume("mended") == f"{file.path} is still there: remove it, then resume again"
    assert switch.glass_broken

    file.path.unlink()
    await glass.tick()
    assert switch.glass_broken
    assert switch.reasons[-1] == f"{file.path} is gone, and nobody has resumed yet"

    assert await glass.resume("mended") == ""
    await glass.tick()
    assert not switch.glass_broken
    assert switch.reasons[-1] == "mended"
    assert not file.path.exists()


async def test_what_held_before_a_restart_holds_without_the_file_until_somebody_resumes(
    tmp_path: Path,
) -> None:
    """It was removed while no gateway ran, and nobody has resumed."""
    file = off_file(tmp_path)
    file.make("anna: errors")
    await BreakGlassWatch(Switch(), file).tick()
    file.path.unlink()

    switch = Switch()
    glass = BreakGlassWatch(switch, off_file(tmp_path))
    await glass.tick()
    assert switch.reasons == [f"{file.path} is gone, and nobody has resumed yet"]

    assert await glass.resume("mended") == ""
    after = Switch()
    await BreakGlassWatch(after, off_file(tmp_path)).tick()
    assert (switch.glass_broken, after.glass_broken) == (False, False)
    assert [*tmp_path.iterdir()] == []


async def test_where_the_note_can_not_be_removed_nothing_is_raised() -> None:
    """Else the canaries would be off again after the next restart, and nobody would know why."""

    class ReadOnly(Disk):
        def release(self) -> None:
            raise OSError(errno.EROFS, "Read-only file system", "/state/canary-off.held")

    switch, disk = Switch(), ReadOnly()
    disk.held = True
    glass = BreakGlassWatch(switch, disk)
    await glass.tick()

    assert await glass.resume("mended") == "/state/canary-off.held: Read-only file system"
    assert switch.glass_broken


async def test_where_the_file_can_not_be_made_the_signal_holds_and_that_is_said_once() -> None:
    switch, disk = Switch(), Disk()
    disk.full = True
    glass = BreakGlassWatch(switch, disk)

    glass.signalled()
    for _ in range(3):
        await glass.tick()

    assert switch.glass_broken
    why = "/state/canary-off can not be made (No space left on device)"
    assert switch.reasons[1:] == [
        f"SIGUSR2 came; {why}, so this holds until the process ends or somebody resumes"
    ]

    disk.full = False
    await glass.tick()
    assert disk.line == "SIGUSR2 came"
    assert switch.reasons[-1] == "/state/canary-off is there: SIGUSR2 came"


async def test_who_resumes_while_the_file_can_not_be_made_ends_that_too() -> None:
    switch, disk = Switch(), Disk()
    disk.full = True
    glass = BreakGlassWatch(switch, disk)
    glass.signalled()
    await glass.tick()

    assert await glass.resume("it was a drill") == ""

    disk.full = False
    await glass.tick()
    assert (switch.glass_broken, disk.made) == (False, 0)


async def test_a_signal_while_somebody_resumes_counts() -> None:
    switch = Switch()
    looking, go = threading.Event(), threading.Event()

    class Slow(Disk):
        def read(self) -> OffRequest | None:
            looking.set()
            go.wait(10)
            return None

    glass = BreakGlassWatch(switch, Slow())
    resuming = asyncio.create_task(glass.resume("mended"))
    await until(looking.is_set)
    glass.signalled()
    go.set()

    assert await resuming == "SIGUSR2 came again meanwhile"
    assert switch.glass_broken


async def test_a_disk_that_hangs_holds_up_neither_the_signal_nor_who_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.control.break_glass.LOOK_SECONDS", 0.05)
    hanging = threading.Event()

    class Hangs(Disk):
        def read(self) -> OffRequest | None:
            hanging.wait(60)
            return None

    switch = Switch()
    glass = BreakGlassWatch(switch, Hangs())
    tick = asyncio.create_task(glass.tick())
    try:
        await asyncio.sleep(0)
        glass.signalled()
        assert switch.glass_broken
        assert (await glass.resume("mended")).endswith("the disk does not answer")
        assert switch.glass_broken
    finally:
        hanging.set()
        await tick


async def test_where_nobody_knows_whether_the_file_is_there_what_holds_goes_on() -> None:
    class Unreadable(Disk):
        def read(self) -> OffRequest | None:
            raise PermissionError(errno.EACCES, "Permission denied")

    switch = Switch(on=True)
    glass = BreakGlassWatch(switch, Unreadable())

    with pytest.raises(PermissionError):
        await glass.tick()
    assert await glass.resume("x") == "/state/canary-off: Permission denied"
    assert switch.glass_broken

    glass.signalled()
    await glass.tick()
    assert "/state/canary-off can not be made (Permission denied)" in switch.reasons[-1]


STEPS = st.sampled_from(["signal", "touch", "remove", "fill", "empty", "tick", "resume", "restart"])


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_only_a_resume_without_the_file_gives_them_back(steps: list[str]) -> None:
    """Whatever happens in whatever order, restarts included where something could be written."""
    asyncio.run(_take(steps))


async def _take(steps: list[str]) -> None:
    switch, disk = Switch(), Disk()
    glass = BreakGlassWatch(switch, disk)
    written = False
    for step in steps:
        before = switch.glass_broken
        match step:
            case "signal":
                glass.signalled()
                assert switch.glass_broken
            case "touch":
                disk.line = ""
            case "remove":
                disk.line = None
            case "fill" | "empty":
                disk.full = step == "fill"
            case "tick":
                await glass.tick()
                assert switch.glass_broken == (before or disk.line is not None)
                written |= switch.glass_broken and not disk.full
            case "resume":
                refused = await glass.resume("x")
                assert bool(refused) == (disk.line is not None)
                assert switch.glass_broken == (before and bool(refused))
                written &= bool(refused)
            case "restart":
                durable = disk.line is not None or disk.held
                assert durable or not written, "it was off and on the disk, and nobody resumed"
                switch, before = Switch(), durable
                glass = BreakGlassWatch(switch, disk)
                await glass.tick()
                assert switch.glass_broken == durable
        if step not in ("signal", "tick", "resume"):
            assert switch.glass_broken == before
