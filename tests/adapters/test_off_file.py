"""The file that switches every canary off: whatever has its name counts."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from router.adapters.state.off_file import OffFile, make_off_file
from router.control.break_glass import OffRequest


def off_file(directory: Path) -> OffFile:
    return OffFile(directory, "there is none")


def test_without_the_file_or_its_directory_nobody_asks(tmp_path: Path) -> None:
    assert off_file(tmp_path).read() is None
    assert off_file(tmp_path / "missing").read() is None
    assert OffFile(None, "this user has no home directory").read() is None


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
    file = off_file(tmp_path)
    made(file.path)

    assert file.read() == OffRequest(tmp_path / "canary-off", line)


def test_a_link_counts_and_what_it_leads_to_is_not_read(tmp_path: Path) -> None:
    """Who may write to the directory need not be who may read the gateway's token, and the line is shown."""
    secret = tmp_path / "token"
    secret.write_text("a-token-of-some-length\n")
    file = off_file(tmp_path)
    file.path.symlink_to(secret)

    assert file.read() == OffRequest(tmp_path / "canary-off", "")


def test_it_is_made_with_its_directory_which_is_for_this_user_alone(tmp_path: Path) -> None:
    file = off_file(tmp_path / "state" / "gateway")

    file.make("SIGUSR2 came")

    assert file.read() == OffRequest(file.path, "SIGUSR2 came")
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_where_others_may_write_to_the_directory_it_counts_there_and_is_made_below(tmp_path: Path) -> None:
    """As on a volume of Kubernetes; there an operator's `touch` is found, too."""
    tmp_path.chmod(0o770)
    file, below = off_file(tmp_path), tmp_path / str(os.geteuid()) / "canary-off"

    file.make("SIGUSR2 came")
    file.hold()
    assert file.read() == OffRequest(below, "SIGUSR2 came")

    below.unlink()
    (tmp_path / "canary-off").touch()
    assert file.read() == OffRequest(tmp_path / "canary-off", "")
    assert off_file(tmp_path).is_held()


@pytest.mark.parametrize("made", [lambda path: path.write_text("anna"), lambda path: path.mkdir()])
def test_one_that_is_there_stays(tmp_path: Path, made: Callable[[Path], None]) -> None:
    file = off_file(tmp_path)
    made(file.path)
    before = file.read()

    file.make("SIGUSR2 came")

    assert file.read() == before


def test_on_a_full_disk_that_has_room_for_a_name_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the name fits and the line does not, all is there that it takes."""
    opened = open

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
        path = make_off_file(tmp_path, "SIGUSR2 came")

    assert off_file(tmp_path).read() == OffRequest(path, "")


def test_a_note_that_it_holds_outlives_the_file_and_is_no_file_that_asks_for_it(tmp_path: Path) -> None:
    file = off_file(tmp_path)
    file.release()
    assert not file.is_held()

    file.hold()
    file.hold()
    assert (off_file(tmp_path).is_held(), file.read()) == (True, None)

    file.release()
    assert not off_file(tmp_path).is_held()


@pytest.mark.parametrize(
    ("named", "why"),
    [(Path("/proc/canary-router"), "No such file"), (None, "this user has no home directory")],
    ids=["read-only", "nowhere"],
)
def test_where_it_can_not_be_made_the_error_says_why(named: Path | None, why: str) -> None:
    with pytest.raises(OSError, match=why):
        OffFile(named, "this user has no home directory").make("SIGUSR2 came")
