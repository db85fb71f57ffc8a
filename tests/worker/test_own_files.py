"""What counts as a write that was refused, and what a load changed."""

import errno
import sqlite3
from pathlib import Path

import pytest

from router.worker.own_files import changed_since, copy_for_this_worker, file_states, was_refused

FILES = "/cache/m/7-abc/files"


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (PermissionError(errno.EACCES, "Permission denied", f"{FILES}/index.db"), True),
        (OSError(errno.EROFS, "Read-only file system", f"{FILES}/index.db"), True),
        (sqlite3.OperationalError("attempt to write a readonly database"), True),
        (RuntimeError(f"can not open {FILES}/index.bin: Permission denied"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/shadow"), False),
        (OSError(errno.EACCES, "Permission denied"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", f"{FILES}/index.db"), False),
        (ValueError("the weights are for another architecture"), False),
        (None, False),
    ],
)
def test_a_refused_write_is_one_among_the_version_s_files(error: BaseException | None, refused: bool) -> None:
    assert was_refused(error, FILES) is refused
    wrapped = RuntimeError("the index can not be opened")
    wrapped.__cause__ = error
    assert was_refused(wrapped, FILES) is refused


def test_what_was_written_replaced_or_removed_is_named_and_what_was_added_is_not(tmp_path: Path) -> None:
    for name in ("grown", "replaced", "gone", "same"):
        (tmp_path / name).write_text(name)
    before = file_states(str(tmp_path))
    (tmp_path / "grown").write_text("grown more")
    (tmp_path / "new").write_text("replaced")
    (tmp_path / "new").rename(tmp_path / "replaced")
    (tmp_path / "gone").unlink()
    (tmp_path / "lock").touch()

    assert changed_since(str(tmp_path), before) == ["gone", "grown", "replaced"]


def test_a_copy_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_bytes(bytes(2 << 20))
    monkeypatch.setattr("router.worker.own_files._RESERVE_BYTES", 1 << 60)

    with pytest.raises(OSError, match="2 MiB, which are not free"):
        copy_for_this_worker(str(tmp_path / "files"), str(tmp_path / "own"))
    assert not (tmp_path / "own").exists()


def test_a_copy_may_be_written_to_and_what_may_run_still_may(tmp_path: Path) -> None:
    (tmp_path / "files" / "deep").mkdir(parents=True)
    for name, mode in (("MLmodel", 0o400), ("deep/tool", 0o500)):
        (tmp_path / "files" / name).write_text(name)
        (tmp_path / "files" / name).chmod(mode)
    copy_for_this_worker(str(tmp_path / "files"), str(tmp_path / "own"))

    modes = {name: (tmp_path / "own" / name).stat().st_mode & 0o777 for name in ("MLmodel", "deep/tool")}
    assert modes == {"MLmodel": 0o600, "deep/tool": 0o700}
