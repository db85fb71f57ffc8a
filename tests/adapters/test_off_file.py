"""The file that switches every canary off: whatever has its name counts."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from router.adapters.state.off_file import OffFile


def test_without_the_file_or_its_directory_it_says_nothing(tmp_path: Path) -> None:
    assert OffFile(tmp_path).read() is None
    assert OffFile(tmp_path / "missing").read() is None


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda path: path.touch(), ""),
        (lambda path: path.write_text("anna: errors since 14:00\nmore\n"), "anna: errors since 14:00"),
        (lambda path: path.write_bytes(b"\x1b[2J\xff\x00red"), "[2J\N{REPLACEMENT CHARACTER}red"),
        (lambda path: path.write_text("x" * 100_000), "x" * 500),
        (lambda path: path.mkdir(), ""),
        (os.mkfifo, ""),
        (lambda path: path.symlink_to("nowhere"), ""),
    ],
    ids=["empty", "a line", "not text", "long", "a directory", "a pipe", "a broken link"],
)
def test_whatever_has_its_name_counts(tmp_path: Path, made: Callable[[Path], None], line: str) -> None:
    file = OffFile(tmp_path)
    made(file.path)

    assert file.read() == line


def test_it_is_made_with_its_directory_for_this_user_alone(tmp_path: Path) -> None:
    file = OffFile(tmp_path / "state" / "gateway")

    file.make("SIGUSR2 came")

    assert file.read() == "SIGUSR2 came"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("made", [lambda path: path.write_text("anna"), lambda path: path.mkdir()])
def test_one_that_is_there_stays(tmp_path: Path, made: Callable[[Path], None]) -> None:
    file = OffFile(tmp_path)
    made(file.path)
    before = file.read()

    file.make("SIGUSR2 came")

    assert file.read() == before


def test_on_a_full_disk_that_has_room_for_a_name_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the name fits and the line does not, all is there that it takes."""
    file, opened = OffFile(tmp_path), open

    class Full:
        def __init__(self, descriptor: int) -> None:
            self._file = opened(descriptor, "wb", buffering=0)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def fileno(self) -> int:
            return self._file.fileno()

        def write(self, _line: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", lambda descriptor, *_, **__: Full(descriptor))
        file.make("SIGUSR2 came")

    assert file.read() == ""


def test_a_note_that_it_holds_outlives_the_file_and_is_no_file_that_asks_for_it(tmp_path: Path) -> None:
    file = OffFile(tmp_path)
    file.release()
    assert not file.is_held()

    file.hold()
    file.hold()
    assert (OffFile(tmp_path).is_held(), file.read()) == (True, None)

    file.release()
    assert not OffFile(tmp_path).is_held()


def test_where_it_can_not_be_made_the_error_says_why() -> None:
    with pytest.raises(OSError, match="No such file"):
        OffFile(Path("/proc/canary-router")).make("SIGUSR2 came")
