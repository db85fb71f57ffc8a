"""A key's file on a disk that hangs costs its own models their canaries, a moment once, and one thread."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.control import gate_keys
from router.control.gate_keys import GateKeys
from tests.support.waiting import until

KEY = b"0123456789abcdef0123456789abcdef"


class HungDisk:
    """Every read of a key hangs until `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.reads: list[Path] = []

    def read(self, path: Path) -> bytes:
        self.reads.append(path)
        self.go_on.wait(60)
        return path.read_bytes()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungDisk]:
    disk = HungDisk()
    monkeypatch.setattr(gate_keys, "_read_key", disk.read)
    monkeypatch.setattr(gate_keys, "READ_SECONDS", 0.05)
    yield disk
    disk.go_on.set()


async def test_a_file_that_hangs_is_read_once_and_anew_when_that_has_ended(
    disk: HungDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, keys = tmp_path / "key", GateKeys()
    for _ in range(20):
        with pytest.raises(OSError, match=r"its disk did not answer within 0\.05 s"):
            await keys.read(file)
    assert disk.reads == [file]

    file.write_bytes(KEY)
    monkeypatch.setattr(gate_keys, "READ_SECONDS", 60.0)
    disk.go_on.set()
    assert await keys.read(file) == KEY
    assert disk.reads == [file]
    file.write_bytes(KEY[::-1])
    assert await keys.read(file) == KEY[::-1], "what is in the file now"


async def test_a_read_that_fails_after_nobody_waits_is_no_news(
    disk: HungDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = GateKeys()
    with pytest.raises(OSError, match="did not answer"):
        await keys.read(tmp_path / "absent")
    disk.go_on.set()
    await until(lambda: not keys._reads)
    gc.collect()  # when asyncio says what nobody asked for

    assert caplog.records == []


async def test_whoever_stops_waiting_ends_no_read_of_others(disk: HungDisk, tmp_path: Path) -> None:
    file, keys = tmp_path / "key", GateKeys()
    file.write_bytes(KEY)
    one, other = (asyncio.ensure_future(keys.read(file)) for _ in range(2))
    await until(lambda: disk.reads)
    one.cancel()
    disk.go_on.set()

    assert await other == KEY
    assert len(disk.reads) == 1
