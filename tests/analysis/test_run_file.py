"""The file of a run: a state and what came after it, up to where it is torn."""

import random

import pytest

from router.analysis import run_file
from router.analysis.evidence_format import EvidenceRefused
from router.analysis.evidence_sink import UncleanEnd
from router.analysis.run_file import (
    FoundFile,
    decode_file,
    encode_end,
    encode_file,
    encode_own,
    encode_sealed,
    header_of,
    merged,
)
from router.analysis.run_state import DAY_CELLS
from router.analysis.statistics.records import RunCell
from tests.support.evidence import FIRST, RUN, SUBJECT, a_state, observed

OURS, THEIRS = "0" * 16, "1" * 16
STATE = a_state(3)
NEXT = STATE.horizon + 1


def begun(canary_requests: int = 0, ends: tuple[UncleanEnd, ...] = ()) -> bytes:
    header = header_of(RUN, SUBJECT, OURS, "gw-1", canary_requests, NEXT, ends)
    return encode_file(header, STATE, [])[0]


def requests(found: FoundFile) -> int:
    """Of production, in what came after the state."""
    cells = [part for _, parts in found.sealed for part in parts]
    cells += [part for _, part in found.unsealed]
    return sum(record.production.requests for cell in cells for record in cell.records)


def test_what_was_written_is_read() -> None:
    content = begun(canary_requests=5)
    content += encode_own(NEXT, observed(3, 1)) + encode_own(NEXT, observed(4, 1, range(9, 12)))
    content += encode_sealed(NEXT, {THEIRS: observed(100, 7)})
    content += encode_own(NEXT + 2, observed(1, 0))
    found = decode_file(content)

    assert (found.run, found.subject, found.state) == (RUN, SUBJECT, STATE)
    [(cell, parts)] = found.sealed
    assert cell == NEXT
    assert [part.records[0].production.requests for part in parts] == [7, 100], "parts of a cell add up"
    assert parts[0].records[0].seen == {*range(4_990, 5_002), *range(9, 12)}
    [(cell, part)] = found.unsealed
    assert (cell, part) == (NEXT + 2, observed(1, 0))
    assert (found.last_cell, found.canary_requests, found.clean) == (NEXT + 2, 7, False)
    assert found.size == len(content)


def test_cells_that_were_sealed_in_between_count_though_nobody_else_had_anything() -> None:
    content = begun() + encode_own(NEXT, observed()) + encode_own(NEXT + 1, observed())
    content += encode_sealed(NEXT + 2, {})

    found = decode_file(content)

    assert [cell for cell, _ in found.sealed] == [NEXT, NEXT + 1, NEXT + 2]
    assert found.unsealed == []


def test_what_is_begun_with_stands_behind_the_state() -> None:
    header = header_of(RUN, SUBJECT, OURS, "gw-1", 0, NEXT, [])
    content, state_bytes = encode_file(header, STATE, [(NEXT, observed())])

    assert decode_file(content).unsealed == [(NEXT, observed())]
    assert decode_file(content[:state_bytes]).unsealed == []


def test_cut_anywhere_it_is_what_was_whole_or_is_refused() -> None:
    content, whole = begun(), [len(begun())]
    for count in range(3):
        content += encode_own(NEXT + count, observed(1, 0))
        whole.append(len(content))
    content += encode_end()

    for size in [*range(0, whole[0], 997), *range(whole[0] - 40, len(content))]:
        if size < whole[0]:
            with pytest.raises(EvidenceRefused):
                decode_file(content[:size])
        else:
            found = decode_file(content[:size])
            assert requests(found) == sum(1 for end in whole[1:] if end <= size)
            assert not found.clean
    assert decode_file(content).clean


def test_of_what_was_damaged_only_what_stands_before_counts() -> None:
    begin = begun()
    content = begin + b"".join(encode_own(NEXT + count, observed(1, 0)) for count in range(4))
    chance = random.Random(7)
    for _ in range(300):
        damaged = bytearray(content)
        place = chance.randrange(len(content))
        damaged[place] ^= 1 << chance.randrange(8)
        if place < len(begin):
            with pytest.raises(EvidenceRefused):
                decode_file(bytes(damaged))
        else:
            each = (len(content) - len(begin)) // 4
            assert requests(decode_file(bytes(damaged))) == (place - len(begin)) // each


def test_what_is_no_evidence_or_another_version_s_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, why in (
        (b"", "no evidence"),
        (b"# notes of mine", "no evidence"),
        (bytes(4_096), "no evidence"),
        (begun().replace(b"evidence 1\n", b"evidence 2\n", 1), "format is not 1"),
        (b"canary-router evidence 1\n", "header is torn"),
    ):
        with pytest.raises(EvidenceRefused, match=why):
            decode_file(content)
    content = begun()
    monkeypatch.setattr(run_file, "STATISTICS_VERSION", run_file.STATISTICS_VERSION + 1)
    with pytest.raises(EvidenceRefused, match="another version of the statistics"):
        decode_file(content)


def test_a_part_of_an_unknown_kind_ends_what_counts() -> None:
    content = begun() + encode_own(NEXT, observed(1, 0)) + run_file.frame(9, b"?")
    content += encode_own(NEXT + 1, observed(1, 0))

    assert requests(decode_file(content)) == 1


def test_an_end_that_nobody_noted_is_known_with_those_of_the_day_before() -> None:
    old, recent = (UncleanEnd(THEIRS, "gw-2", NEXT - DAY_CELLS + ago, 4) for ago in (-5, 5))
    content = begun(canary_requests=5, ends=(old, recent)) + encode_own(NEXT, observed(1, 2))

    assert decode_file(content).unclean_ends == [recent, UncleanEnd(OURS, "gw-1", NEXT, 7)]
    assert decode_file(content + encode_end()).unclean_ends == [recent]


def test_parts_of_a_cell_keep_what_the_first_one_said_of_the_run() -> None:
    first, later = observed(), observed()
    first.history, first.subject, later.outage = {3: 9}, SUBJECT.pack(), True
    both = merged(first, later, 22)

    assert (both.history, both.subject, both.outage) == ({3: 9}, SUBJECT.pack(), True)
    other = RunCell(compares=True, began_with=both.began_with, records=observed().records)
    other.records[0].line = 0.2
    assert len(merged(both, other, 22).records) == 2, "another line is another record"


def test_a_file_of_another_run_than_it_says_is_refused() -> None:
    header = header_of(RUN, SUBJECT, OURS, "gw-1", 0, NEXT, [])
    header.key = "f" * 32
    with pytest.raises(EvidenceRefused, match="key"):
        decode_file(encode_file(header, STATE, [])[0])
    assert FIRST < NEXT
