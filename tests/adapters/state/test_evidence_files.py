"""Files of evidence: what was appended is there whatever ends their writer, and nobody else's is lost."""

import errno
import os
from pathlib import Path

import pytest

from router.adapters.state import evidence_files
from router.adapters.state.directory import MOST_SET_ASIDE
from router.adapters.state.evidence_files import (
    AGAIN_SECONDS,
    FOLDER,
    Append,
    Change,
    End,
    EvidenceFiles,
    Forget,
    FoundEvidence,
    Replace,
    Seal,
)
from router.analysis.evidence_sink import StoredEvidence, StoredRun
from router.analysis.run_file import encode_file, header_of
from router.analysis.statistics.records import RunCell, RunId
from router.core.ids import GatewayId
from tests.support.evidence import RUN, SUBJECT, a_state, observed, subject

STATE = a_state(3)
NEXT = STATE.horizon + 1
FILE = f"{FOLDER}/{RUN.key}"


def process(number: int) -> str:
    return f"{number:016x}"


class Writer:
    """One process that has the directory."""

    def __init__(self, directory: Path, number: int) -> None:
        self.files = EvidenceFiles(GatewayId(process(number), f"gw-{number}"))
        self.found: FoundEvidence = self.files.open(directory)
        self.cell = NEXT

    @property
    def stored(self) -> StoredEvidence:
        return self.found.stored

    @property
    def run(self) -> StoredRun:
        return self.stored.runs[RUN.key]

    def write(self, change: Change) -> None:
        """As the thread of a gateway does."""
        if self.files.takes(change):
            self.files.write(change)

    def begin(self, run: RunId = RUN, *unsealed: RunCell) -> "Writer":
        parts = [(NEXT + place, part) for place, part in enumerate(unsealed)]
        self.write(Replace(run, SUBJECT, STATE, NEXT, parts))
        return self

    def observe(self, canary: int = 2) -> "Writer":
        self.write(Append(RUN, self.cell, observed(10, canary)))
        self.cell += 1
        return self

    def end(self) -> None:
        self.write(End())


def canary_requests(found: StoredEvidence) -> int:
    """In all that is in no state."""
    parts = [part for one in found.ended for batch in one.batches for _, part in batch.runs.values()]
    parts += [part for run in found.runs.values() for _, cells in run.sealed for part in cells]
    return sum(record.canary.requests for part in parts for record in part.records)


def test_what_a_process_left_is_found_by_the_next_one(tmp_path: Path) -> None:
    first = Writer(tmp_path, 1)
    assert (first.stored, first.found.set_aside) == (StoredEvidence(), [])
    first.begin().observe().observe()
    first.files.write(Seal(RUN, NEXT, {process(9): observed(50, 5)}))

    second = Writer(tmp_path, 2)

    assert (second.run.run, second.run.subject, second.run.state) == (RUN, SUBJECT, STATE)
    assert second.run.verdict_cell == NEXT
    [(cell, parts)] = second.run.sealed
    assert (cell, parts) == (NEXT, [observed(10, 2), observed(50, 5)])
    [ended] = second.stored.ended
    assert (ended.process, ended.host, ended.clean) == (process(1), "gw-1", False)
    assert [(batch.cell, batch.runs) for batch in ended.batches] == [
        (NEXT + 1, {RUN.key: (1, observed(10, 2))})
    ]


def test_without_a_state_nothing_is_kept_of_a_run(tmp_path: Path) -> None:
    """Records without one could not be folded into anything."""
    Writer(tmp_path, 1).observe()
    assert list((tmp_path / FOLDER).iterdir()) == []

    Writer(tmp_path, 1).begin()
    Writer(tmp_path, 2).observe()
    assert Writer(tmp_path, 3).stored.ended[0].batches == [], "nor is it put to what another process left"


def test_a_new_state_takes_the_place_of_all_before_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 1).begin().observe().observe()
    writer.begin(RUN, observed(1, 1))
    writer.observe(canary=3)

    found = Writer(tmp_path, 2)
    assert canary_requests(found.stored) == 4
    assert found.run.unclean_ends[0].canary_requests == 7, (
        "all that it had observed, also what is in the state"
    )


def test_a_new_state_is_wanted_once_more_is_appended_than_it_takes(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 1).begin()
    size = os.stat(tmp_path / FILE).st_size
    while os.stat(tmp_path / FILE).st_size < 2 * size:
        assert writer.files.wanted == {}
        writer.write(Append(RUN, writer.cell, observed(buckets=range(0, 60_000, 7))))
    assert RUN.key in writer.files.wanted

    writer.begin()
    assert writer.files.wanted == {}


def test_a_clean_end_is_known_and_any_other_counted_with_those_before(tmp_path: Path) -> None:
    Writer(tmp_path, 1).begin().observe().end()
    second = Writer(tmp_path, 2)
    assert (second.run.went_down, second.run.unclean_ends) == (False, [])
    assert second.stored.ended[0].clean

    second.begin().observe(canary=3)
    third = Writer(tmp_path, 3)
    assert (third.run.went_down, third.stored.ended[0].clean) == (True, False)
    [end] = third.run.unclean_ends
    assert (end.process, end.host, end.cell, end.canary_requests) == (process(2), "gw-2", NEXT, 3)

    third.begin().end()
    fourth = Writer(tmp_path, 4)
    assert (fourth.run.went_down, fourth.run.unclean_ends) == (False, [end]), "it is remembered"


def test_a_state_that_is_written_after_the_end_ends_too(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 1).begin().observe()
    writer.end()
    writer.begin()

    assert not Writer(tmp_path, 2).run.went_down


def test_three_unclean_ends_in_ten_minutes_with_requests_of_the_canary_are_a_loop(tmp_path: Path) -> None:
    for number in range(1, 4):
        writer = Writer(tmp_path, number)
        assert number == 1 or not writer.run.goes_down
        writer.begin().observe()

    assert Writer(tmp_path, 4).run.goes_down
    Writer(tmp_path, 4).begin().end()
    assert not Writer(tmp_path, 5).run.goes_down, "it did once; nothing has happened since"


@pytest.mark.parametrize("how", ["far apart", "without the canary", "reset"])
def test_other_unclean_ends_are_no_loop(tmp_path: Path, how: str) -> None:
    for number in range(1, 4):
        writer = Writer(tmp_path, number)
        if how == "far apart":
            writer.cell += 61 * number
        run = RunId(RUN.key, 2) if how == "reset" and number == 3 else RUN
        writer.begin(run)
        writer.write(Append(run, writer.cell, observed(10, 0 if how == "without the canary" else 2)))

    assert not Writer(tmp_path, 4).run.goes_down


def test_what_the_process_itself_wrote_is_no_news_to_it(tmp_path: Path) -> None:
    """As after somebody removed the lock, and it was taken again."""
    writer = Writer(tmp_path, 1).begin().observe()
    found = writer.files.open(tmp_path)

    assert found.stored == StoredEvidence()
    writer.observe()
    assert canary_requests(Writer(tmp_path, 2).stored) == 2, (
        "others may have written meanwhile: a state first"
    )
    writer.begin()
    assert Writer(tmp_path, 2).run.unclean_ends[0].canary_requests == 2


def test_the_higher_number_of_a_run_stays(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 1).begin()
    writer.begin(RunId(RUN.key, 2))
    writer.begin(RUN)
    writer.observe()

    found = Writer(tmp_path, 2)
    assert (found.run.run.number, canary_requests(found.stored)) == (2, 0)
    writer.write(Forget(RUN))
    assert (tmp_path / FILE).exists(), "the lower one is over already"
    writer.write(Forget(RunId(RUN.key, 2)))
    assert not (tmp_path / FILE).exists()
    writer.write(Forget(RUN))


# Damage


def test_a_torn_end_is_cut_and_the_rest_counts(tmp_path: Path) -> None:
    Writer(tmp_path, 1).begin().observe().observe()
    whole = (tmp_path / FILE).read_bytes()
    for torn in range(1, 60):
        (tmp_path / FILE).write_bytes(whole[:-torn])
        found = Writer(tmp_path, 2)
        assert canary_requests(found.stored) == (2 if torn < 60 else 0)
        assert found.found.set_aside == []


def header(**changes: object) -> bytes:
    of_it = header_of(RUN, SUBJECT, process(1), "gw-1", 0, NEXT, [])
    for name, value in changes.items():
        setattr(of_it, name, value)
    return encode_file(of_it, STATE, [])[0]


FOREIGN = {
    "notes": (b"# mine", "it is no evidence"),
    "empty": (b"", "it is no evidence"),
    "zeros": (bytes(9_000), "it is no evidence"),
    "torn": (header()[:-1_000], "its state is torn"),
    "flipped": (header()[:2_000] + b"\xff" + header()[2_001:], "its state is torn"),
    "newer": (
        header().replace(b"evidence 1", b"evidence 2"),
        "its format is not 1, which this version reads",
    ),
    "other statistics": (header(statistics=99), "it was counted by another version of the statistics"),
}


@pytest.mark.parametrize(("content", "why"), FOREIGN.values(), ids=FOREIGN)
def test_a_torn_or_foreign_state_is_set_aside_and_named(tmp_path: Path, content: bytes, why: str) -> None:
    Writer(tmp_path, 1).begin()
    (tmp_path / FILE).write_bytes(content)

    found = Writer(tmp_path, 2)

    assert found.stored == StoredEvidence()
    [(name, said)] = found.found.set_aside
    assert said == why
    assert (tmp_path / name).read_bytes() == content
    assert name.startswith(f"{FILE}.set-aside-")
    found.begin().observe()
    assert canary_requests(Writer(tmp_path, 3).stored) == 2
    assert Writer(tmp_path, 3).found.set_aside == [], "named once"


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_file_that_can_not_be_read_now_is_not_set_aside_but_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    Writer(tmp_path, 1).begin().observe().end()
    (tmp_path / FOLDER / ("0" * 32)).write_bytes(b"torn")
    again = EvidenceFiles(GatewayId(process(2), "gw-2"))
    opened = evidence_files.open_file

    def fail(path: Path, flags: int) -> int:
        if path.name == RUN.key:
            raise OSError(number, "not now")
        return opened(path, flags)

    monkeypatch.setattr(evidence_files, "open_file", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="not now"):
            again.open(tmp_path)
    monkeypatch.setattr(evidence_files, "open_file", opened)
    found = again.open(tmp_path)

    assert set(found.stored.runs) == {RUN.key}
    assert len(found.set_aside) == 1, "the torn one, of which it was not said before"


def test_that_of_another_run_is_set_aside(tmp_path: Path) -> None:
    Writer(tmp_path, 1).begin()
    os.rename(tmp_path / FILE, tmp_path / FOLDER / subject(9).key)

    [(_, why)] = Writer(tmp_path, 2).found.set_aside
    assert why == "it is that of another run"


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_what_is_no_plain_file_holds_nothing_up(tmp_path: Path, kind: str) -> None:
    (tmp_path / FOLDER).mkdir()
    if kind == "pipe":
        os.mkfifo(tmp_path / FILE)
    elif kind == "link":
        (tmp_path / FILE).symlink_to("/etc/passwd")
    else:
        (tmp_path / FILE).mkdir()

    writer = Writer(tmp_path, 1)
    assert len(writer.found.set_aside) == 1
    writer.begin().observe()
    assert canary_requests(Writer(tmp_path, 2).stored) == 2


def test_what_was_set_aside_is_bounded_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "README").write_text("mine")
    for number in range(MOST_SET_ASIDE + 2):
        (tmp_path / FILE).write_text(str(number))
        Writer(tmp_path, number)

    assert len(list((tmp_path / FOLDER).glob("*set-aside*"))) == MOST_SET_ASIDE
    assert (tmp_path / FOLDER / "README").exists()


def test_a_state_that_was_left_half_written_goes(tmp_path: Path) -> None:
    Writer(tmp_path, 1).begin()
    (tmp_path / f"{FILE}.new").write_bytes(b"half")

    assert Writer(tmp_path, 2).run.state == STATE
    assert not (tmp_path / f"{FILE}.new").exists()


# A disk that takes nothing


def test_a_delta_that_finds_no_room_leaves_no_part_of_it_and_asks_for_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, 1).begin().observe()
    now = [100.0]
    monkeypatch.setattr(evidence_files.time, "monotonic", lambda: now[0])
    whole = (tmp_path / FILE).read_bytes()
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[:-19])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            writer.observe()
    assert (tmp_path / FILE).read_bytes() == whole
    assert writer.files.wanted == {RUN.key: 100.0 + AGAIN_SECONDS}

    writer.observe()
    assert (tmp_path / FILE).read_bytes() == whole, "what follows a gap does not count"
    writer.begin()
    writer.observe()
    assert canary_requests(Writer(tmp_path, 2).stored) == 2


def test_a_state_that_finds_no_room_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, 1).begin().observe()
    whole = (tmp_path / FILE).read_bytes()

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            writer.begin()
        with pytest.raises(OSError, match="No space"):
            writer.begin(RunId(RUN.key, 2))
    assert (tmp_path / FILE).read_bytes() == whole
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [RUN.key]


def test_an_end_is_noted_wherever_there_is_room(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 1).begin()
    other = subject(9)
    writer.write(Replace(RunId(other.key, 1), other, STATE, NEXT, []))
    (tmp_path / FILE).unlink()
    with pytest.raises(OSError, match="No such file"):
        writer.end()

    assert not Writer(tmp_path, 2).stored.runs[other.key].went_down


def test_a_file_that_somebody_removed_or_changed_is_written_to_no_more(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 1).begin()
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes() + b"theirs")
    with pytest.raises(OSError, match="replaced"):
        writer.observe()
    writer.begin()
    (tmp_path / FILE).unlink()
    with pytest.raises(OSError, match="No such file"):
        writer.observe()
    writer.begin().observe()
    assert canary_requests(Writer(tmp_path, 2).stored) == 2
