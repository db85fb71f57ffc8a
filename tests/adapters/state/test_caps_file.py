"""The file of caps: whole or not there, shared by gateways, and no content of another format is lost."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.adapters.state.caps_file import NAME, CapsFile, Unreadable, decode, encode
from router.adapters.state.directory import MOST_SET_ASIDE
from router.core.caps import FORMAT, KEPT_SECONDS, MOST_BYTES, CapRecord, Caps, CapTarget
from router.core.ids import Alias
from tests.adapters.state.examples import ANY, V8, V9, capped

some_caps = st.dictionaries(
    st.builds(
        CapTarget,
        st.sampled_from(["sentiment", "Ünïcödé"]),
        st.sampled_from([Alias("canary"), Alias("beta")]),
        st.none() | st.integers(1, 99),
    ),
    st.builds(
        CapRecord,
        st.integers(1, 2**40),
        st.none() | st.integers(0, 100_000),
        st.just("ann"),
        st.sampled_from(["too many faults", 'it says "no"']),
        st.floats(0, 1e10, allow_nan=False),
    ),
    max_size=5,
).map(Caps)


def test_an_open_breaker_is_kept_beside_the_caps_of_its_version(tmp_path: Path) -> None:
    breaker = replace(V8, breaker=True)
    both = Caps({**capped(V8).records, **capped(breaker).records})

    CapsFile(tmp_path).write(both, 0.0)

    found = CapsFile(tmp_path).read()
    assert found is not None
    assert found.caps == both


@given(some_caps)
def test_what_is_written_is_read(caps: Caps) -> None:
    assert decode(encode(caps)) == caps


@given(
    st.binary(max_size=80)
    | some_caps.map(encode).flatmap(lambda whole: st.sampled_from([whole[:-n] for n in range(2, 40)]))
)
def test_whatever_else_is_there_is_refused_and_raises_nothing_else(content: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(content)


def test_two_gateways_that_write_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Neither has read what the other wrote before it writes."""
    one, other = CapsFile(tmp_path), CapsFile(tmp_path)
    one.read()
    other.read()

    one.write(capped(V8), 0.0)
    merged = other.write(capped(V9), 0.0).caps

    assert merged.records == {**capped(V8).records, **capped(V9).records}
    found = one.read()
    assert found is not None
    assert found.caps == merged
    assert one.read() is None, "nothing changed since"


def test_an_older_record_never_takes_the_place_of_a_newer_one(tmp_path: Path) -> None:
    CapsFile(tmp_path).write(capped(share=None, counter=2), 0.0)

    kept = CapsFile(tmp_path).write(capped(share=0, counter=1), 0.0).caps

    assert kept == capped(share=None, counter=2)


def test_what_is_on_disk_already_is_not_written_again(tmp_path: Path) -> None:
    file = CapsFile(tmp_path)
    file.write(capped(), 0.0)
    before = os.stat(tmp_path / NAME)

    file.write(capped(), 0.0)

    assert os.path.samestat(os.stat(tmp_path / NAME), before)


def test_what_is_left_out_is_forgotten_after_thirty_days(tmp_path: Path) -> None:
    CapsFile(tmp_path).write(capped(ANY, at=0.0), 0.0)

    assert ANY in CapsFile(tmp_path).write(capped(V8), KEPT_SECONDS - 1).caps.records
    assert ANY not in CapsFile(tmp_path).write(capped(V8), KEPT_SECONDS + 1).caps.records


FOREIGN = {
    "newer": json.dumps({"format": FORMAT + 1, "records": {}}).encode(),
    "torn": encode(capped())[:-20],
    "foreign": b"\x00" * 300,
    "too large": b" " * (MOST_BYTES + 1),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_can_not_be_read_is_left_by_a_reader_and_renamed_by_a_writer(
    tmp_path: Path, content: bytes
) -> None:
    """A gateway of a newer version may be using it while an older one waits for its end."""
    (tmp_path / NAME).write_bytes(content)
    file = CapsFile(tmp_path)

    found = file.read()
    assert found is not None
    assert (found.caps, found.set_aside) == (Caps(), "")
    assert found.unreadable
    assert (tmp_path / NAME).read_bytes() == content

    written = file.write(capped(), 0.0)
    assert (tmp_path / written.set_aside).read_bytes() == content
    assert CapsFile(tmp_path).read() is not None
    assert decode((tmp_path / NAME).read_bytes()) == capped()


def test_what_was_set_aside_is_bounded(tmp_path: Path) -> None:
    for number in range(MOST_SET_ASIDE + 3):
        (tmp_path / NAME).write_text(str(number))
        file = CapsFile(tmp_path)
        file.read()
        file.make_way()

    kept = sorted(int(path.read_text()) for path in tmp_path.glob("*set-aside*"))
    assert kept == list(range(3, MOST_SET_ASIDE + 3))


def test_a_link_or_a_pipe_in_its_place_is_not_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(OSError, match="plain file"):
        CapsFile(tmp_path).read()

    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        CapsFile(tmp_path).read()
