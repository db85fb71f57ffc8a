"""A chain of lines: whatever is changed, taken out, put in or moved is found, and named by file and line."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import PRODUCTION, VersionId
from router.core.journal import BEGINNING, DamagedLine, Entry, decode, digest_of, encode
from router.core.journal_chain import ChainCheck, Line, Report
from router.core.routing import ModelRoutes
from router.core.split import Split
from tests.core.journal_lines import chained, content

GATEWAY = "gw-1:4711"
NOT_FOLLOWED = "does not follow it: it was changed, or lines between them are missing"


def chain(count: int, *, gateway: str = GATEWAY, prev: str = BEGINNING) -> list[bytes]:
    return chained((changed_share(number, gateway) for number in range(count)), prev)


def changed_share(number: int, gateway: str) -> Entry:
    routes = ModelRoutes("sentiment", "sentiment", Split(number), {PRODUCTION: VersionId("sentiment", 7)})
    return Entry(
        1000.0 + number, gateway, "configuration", {"digest": f"{number:064x}"}, {"sentiment": routes}
    )


def files_of(raw: bytes, name: str = "one") -> list[Line]:
    """Lines as a reader finds them in the bytes of a file."""
    *whole, rest = raw.split(b"\n")
    lines = [Line(name, number, line) for number, line in enumerate(whole, 1)]
    return [*lines, Line(name, len(lines) + 1, rest, torn=True)] if rest else lines


def checked(lines: list[Line], *heads: str) -> Report:
    check = ChainCheck(heads)
    for line in lines:
        check.take(line)
    return check.end()


def named(report: Report) -> set[int]:
    """Numbers of the lines that sentences about damage name."""
    return {int(number) for sentence in report.damage for number in re.findall(r"one:(\d+)", sentence)}


def is_found(raw: bytes, head: str) -> bool:
    report = checked(files_of(raw), head)
    return bool(report.damaged) or head not in report.found


def test_a_whole_chain_is_whole_and_its_head_is_that_of_its_last_line() -> None:
    lines = chain(4)
    report = checked(files_of(content(lines)))

    assert not report.damage
    assert not report.notices
    assert report.heads == [digest_of(lines[-1])]
    assert (report.lines, report.first_at, report.last_at) == (4, 1000.0, 1003.0)


LINES = chain(6)
WHOLE = content(LINES)
HEAD = digest_of(LINES[-1])


def line_of(offset: int) -> int:
    """Number of the line in which the byte at `offset` stands."""
    return WHOLE[:offset].count(b"\n") + 1


places = st.integers(0, len(WHOLE) - 1)
before_the_last = st.integers(0, len(content(LINES[:-1])) - 1)


@given(before_the_last, st.integers(1, 255))
def test_one_changed_byte_is_found_and_its_line_named(offset: int, change: int) -> None:
    changed = bytes([WHOLE[offset] ^ change])
    report = checked(files_of(WHOLE[:offset] + changed + WHOLE[offset + 1 :]))

    assert report.damaged
    assert named(report) & {line_of(offset), line_of(offset) + 1}


@given(places, st.integers(1, 255))
def test_with_its_head_a_changed_byte_of_the_last_line_is_found_too(offset: int, change: int) -> None:
    raw = WHOLE[:offset] + bytes([WHOLE[offset] ^ change]) + WHOLE[offset + 1 :]

    assert is_found(raw, HEAD) or raw.startswith(WHOLE[:-1])


@given(before_the_last)
def test_one_removed_byte_is_found_and_its_line_named(offset: int) -> None:
    report = checked(files_of(WHOLE[:offset] + WHOLE[offset + 1 :]))

    assert named(report) & {line_of(offset), line_of(offset) + 1}


@given(before_the_last, st.binary(min_size=1, max_size=1))
def test_one_inserted_byte_is_found_and_its_line_named(offset: int, byte: bytes) -> None:
    raw = WHOLE[:offset] + byte + WHOLE[offset:]
    report = checked(files_of(raw))

    assert named(report) & {line_of(offset), line_of(offset) + 1}


@pytest.mark.parametrize("number", range(2, 6))
def test_a_removed_line_is_found_and_the_line_before_it_named(number: int) -> None:
    report = checked(files_of(content(LINES[: number - 1] + LINES[number:])))

    assert report.damage == [f"one:{number - 1}: one:{number} {NOT_FOLLOWED}"]


def test_a_first_line_that_follows_another_one_is_said() -> None:
    report = checked(files_of(content(LINES[1:])))

    assert not report.damage
    assert "one:1: a chain begins here in its middle" in report.notices[0]


@pytest.mark.parametrize("number", range(2, 6))
def test_a_line_that_was_put_in_is_named(number: int) -> None:
    stranger = chain(9)[8]
    report = checked(files_of(content([*LINES[: number - 1], stranger, *LINES[number - 1 :]])))

    assert report.damage == [f"one:{number}: it was put in: one:{number + 1} follows the line before it"]


def test_a_line_that_is_there_twice_is_named() -> None:
    report = checked(files_of(content([*LINES[:3], LINES[2], *LINES[3:]])))

    assert report.damage == ["one:4: it repeats the line before it"]


@pytest.mark.parametrize("number", range(2, 6))
def test_two_lines_that_have_changed_places_are_named(number: int) -> None:
    lines = LINES.copy()
    lines[number - 1 : number + 1] = lines[number], lines[number - 1]
    report = checked(files_of(content(lines)))

    assert report.damage == [f"one:{number}: this line and one:{number + 1} have changed places"]


@given(st.permutations(range(6)))
def test_no_other_order_passes(order: list[int]) -> None:
    report = checked(files_of(content([LINES[number] for number in order])), HEAD)

    assert bool(report.damaged) == (order != sorted(order))


def test_a_torn_last_line_is_said_and_is_no_damage() -> None:
    report = checked(files_of(WHOLE[:-20]))

    assert not report.damage
    assert report.notices == ["one:6: this last line was not written whole, and counts as not written"]
    assert report.heads == [digest_of(LINES[4])]
    assert report.lines == 5


def test_a_chain_goes_on_from_file_to_file() -> None:
    report = checked([*files_of(content(LINES[:3])), *files_of(content(LINES[3:]), "two")])

    assert not report.damage
    assert not report.notices


def test_a_file_that_is_missing_between_two_is_damage() -> None:
    report = checked([*files_of(content(LINES[:2])), *files_of(content(LINES[4:]), "three")])

    assert report.damage == [f"one:2: three:1 {NOT_FOLLOWED}"]


def test_a_second_chain_is_said_and_both_heads_are_given() -> None:
    other = chain(2, gateway="gw-1:5000")
    report = checked([*files_of(WHOLE), *files_of(content(other), "two")])

    assert not report.damage
    assert report.notices[0].startswith("two:1: another chain begins here")
    assert report.heads == [HEAD, digest_of(other[-1])]


def test_a_second_chain_in_the_middle_of_a_file_is_damage() -> None:
    report = checked(files_of(content([*LINES, *chain(2, gateway="gw-1:5000")])))

    assert named(report) == {6, 7}


def test_heads_are_found_by_their_first_digits_and_a_strange_one_is_not() -> None:
    wanted, strange = digest_of(LINES[2])[:12], "0123456789ab"
    report = checked(files_of(WHOLE), wanted, strange)

    assert report.found == {wanted: "one:3"}


def logged(lines: list[bytes]) -> list[Line]:
    return [Line("log", number, line, logged_digest=digest_of(line)) for number, line in enumerate(lines, 1)]


def test_in_a_log_the_lines_of_several_gateways_may_be_mixed() -> None:
    one, other = chain(3, gateway="a:1"), chain(3, gateway="b:1")
    report = checked(logged([one[0], other[0], other[1], one[1], one[2], other[2]]))

    assert not report.damage
    assert report.heads == [digest_of(one[-1]), digest_of(other[-1])]


def test_in_a_log_a_line_that_is_missing_is_found() -> None:
    one, other = chain(3, gateway="a:1"), chain(3, gateway="b:1")
    report = checked(logged([one[0], other[0], one[2], other[1], other[2]]))

    assert report.damage == [
        "log:3: it does not follow the last line of a:1: one was changed, or some are missing"
    ]


def test_in_a_log_a_line_that_was_changed_is_found() -> None:
    lines = logged(LINES)
    lines[2] = Line("log", 3, LINES[2].replace(b"1002", b"1003"), logged_digest=digest_of(LINES[2]))

    assert checked(lines).damage == ["log:3: its content is not what its digest stands for: it was changed"]


def test_a_gateway_whose_lines_were_not_kept_for_a_while_joins_the_chain_without_damage() -> None:
    lines = chain(3)
    unkept = chain(2, prev=digest_of(lines[-1]))
    again = encode(Entry(2000.0, GATEWAY, "catch_up"), digest_of(lines[-1]))

    assert not checked(logged([*lines, *unkept, again])).damage
    assert not checked(files_of(content([*lines, again]))).damage


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"time": "nan"}, "its time is no number"),
        ({"time": "inf"}, "its time is no number"),
        ({"time": None}, "its time is no number"),
        ({"format": "x" * 100_000}, "its format is 'xxx"),
        ({"table": {"sentiment": {"configured": {"canary": "x" * 100_000}}}}, "it can not be read: invalid"),
    ],
    ids=["no number", "without end", "none", "a long format", "a long share"],
)
def test_what_is_said_of_a_line_that_can_not_be_read_is_short(change: dict[str, Any], why: str) -> None:
    """It is logged and shown; and a time that is no number would be before and after nothing."""
    document = {**orjson.loads(LINES[0]), **change}

    with pytest.raises(DamagedLine, match=why) as damaged:
        decode(orjson.dumps(document))

    assert len(str(damaged.value)) <= 200
