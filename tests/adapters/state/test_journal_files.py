"""Files of the journal: the chain goes on over files, restarts and torn lines, and all of it is bounded."""

import errno
import os
from pathlib import Path

import pytest

from router.adapters.state import journal_files
from router.adapters.state.journal_files import FOLDER, MOST_FILES, JournalFiles
from router.core.journal import BEGINNING, FORMAT, decode, digest_of
from tests.adapters.state.examples import a_line


def lines(directory: Path) -> list[bytes]:
    return [
        line for path in journal_files.journal_files(directory) for line in path.read_bytes().splitlines()
    ]


def test_a_journal_that_is_opened_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    files = JournalFiles(tmp_path)
    assert files.open().end.head == BEGINNING
    first = a_line(1.0)
    files.append(first, begins_file=True, sync=True)
    files.close()

    end = JournalFiles(tmp_path).open().end

    assert end.head == digest_of(first)
    assert end.size == len(first) + 1
    assert end.began == 1.0


@pytest.mark.parametrize("torn", [b"{", b'{"format": 1, "prev": "', b"\x00" * 70_000], ids=len)
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    whole = a_line(1.0)
    files = JournalFiles(tmp_path)
    files.open()
    files.append(whole, begins_file=True, sync=False)
    (path,) = journal_files.journal_files(tmp_path)
    path.write_bytes(path.read_bytes() + torn)

    opened = files.open()
    files.append(second := a_line(2.0, opened.end.head), begins_file=False, sync=False)

    assert opened.cut == len(torn)
    assert lines(tmp_path) == [whole, second]


def test_a_pipe_among_the_files_holds_nothing_up(tmp_path: Path) -> None:
    """The thread that opens the journal writes the caps, too."""
    files = JournalFiles(tmp_path)
    files.open()
    os.mkfifo(tmp_path / FOLDER / "00000001.jsonl")

    with pytest.raises(OSError, match="not a plain file"):
        files.open()


def test_a_file_without_one_whole_line_goes(tmp_path: Path) -> None:
    """Its gateway was killed between making it and its first line."""
    files = JournalFiles(tmp_path)
    files.open()
    files.append(whole := a_line(1.0), begins_file=True, sync=False)
    for name, content in (("00000002.jsonl", b'{"form'), ("00000003.jsonl", b"")):
        (tmp_path / FOLDER / name).write_bytes(content)

    opened = files.open()

    assert opened.end.head == digest_of(whole)
    assert [path.name for path in journal_files.journal_files(tmp_path)] == ["00000001.jsonl"]


LAST = {
    "newer": a_line(2.0).replace(b'"format":%d' % FORMAT, b'"format":%d' % (FORMAT + 1)),
    "foreign": b"2026-11-20 INFO started",
    "empty": b"",
}


@pytest.mark.parametrize("last", LAST.values(), ids=LAST)
def test_a_file_that_another_format_ends_is_set_aside_and_the_chain_goes_on(
    tmp_path: Path, last: bytes
) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "00000007.jsonl").write_bytes(a_line(1.0) + b"\n" + last + b"\n")
    files = JournalFiles(tmp_path)

    opened = files.open()
    files.append(a_line(3.0, opened.end.head), begins_file=True, sync=False)

    assert (folder / opened.set_aside).read_bytes().endswith(last + b"\n")
    assert opened.unreadable
    assert (opened.end.head, opened.end.size) == (digest_of(last), 0)
    assert [path.name for path in journal_files.journal_files(tmp_path)] == ["00000008.jsonl"]


def test_the_last_twenty_files_are_kept(tmp_path: Path) -> None:
    files = JournalFiles(tmp_path)
    files.open()
    for at in range(MOST_FILES + 5):
        files.append(a_line(float(at)), begins_file=True, sync=False)

    kept = [decode(line)[0].at for line in lines(tmp_path)]
    assert kept == [float(at) for at in range(5, MOST_FILES + 5)]
    assert files.open().end.began == 5.0


def test_a_line_that_finds_no_room_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = JournalFiles(tmp_path)
    files.open()
    files.append(whole := a_line(1.0), begins_file=True, sync=False)
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[: len(content) - 39])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        files.append(a_line(2.0), begins_file=False, sync=False)

    assert lines(tmp_path) == [whole]


def test_it_is_not_opened_where_there_is_no_room_for_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        JournalFiles(tmp_path).open()
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_file_that_somebody_removed_is_noticed(tmp_path: Path) -> None:
    files = JournalFiles(tmp_path)
    files.open()
    files.append(a_line(1.0), begins_file=True, sync=False)
    files.check()

    journal_files.journal_files(tmp_path)[0].unlink()

    with pytest.raises(OSError, match="No such file"):
        files.check()
