"""Caps: that they only lower, and that gateways which exchanged them in any order agree."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.caps import (
    LONGEST_REASON,
    MOST_BYTES,
    MOST_COUNTER,
    MOST_RECORDS,
    CapRecord,
    Caps,
    CapTarget,
    check_reason,
    records_from_json,
    records_to_json,
)
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.split import BUCKETS
from router.settings.model import check_model_name

CHALLENGER = Alias("challenger")
V8 = CapTarget("sentiment", CANARY, 8)
BREAKER = CapTarget("sentiment", CANARY, 8, breaker=True)
ALL = CapTarget("sentiment", CANARY)

some_targets = (
    st.builds(
        CapTarget,
        st.sampled_from(["sentiment", "churn"]),
        st.sampled_from([CANARY, CHALLENGER]),
        st.sampled_from([None, 7, 8]),
    )
    | st.builds(
        CapTarget,
        st.just("sentiment"),
        st.sampled_from([CANARY, CHALLENGER]),
        st.sampled_from([7, 8]),
        st.just(value=True),
    )
    | st.builds(
        CapTarget, st.just("sentiment"), st.just(CANARY), st.sampled_from([7, 8]), passage=st.just(value=True)
    )
)
some_shares = st.integers(0, BUCKETS)
some_texts = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)
some_records = st.builds(
    CapRecord,
    st.integers(1, 3),
    st.none() | st.sampled_from([0, 1, 5_000, BUCKETS]) | some_shares,
    some_texts,
    some_texts,
    st.sampled_from([0.0, 1.5, 2e9]),
    st.sampled_from(["", "a1@2026", "b2@2026"]),
)
some_caps = st.builds(Caps, st.dictionaries(some_targets, some_records))


@given(some_caps, some_caps)
def test_it_makes_no_difference_who_heard_first(one: Caps, other: Caps) -> None:
    assert one.merged(other.records) == other.merged(one.records)


@given(some_caps, some_caps, some_caps)
def test_it_makes_no_difference_what_was_merged_before(a: Caps, b: Caps, c: Caps) -> None:
    assert a.merged(b.records).merged(c.records) == a.merged(b.merged(c.records).records)


@given(some_caps, some_caps)
def test_what_was_heard_before_is_no_news(one: Caps, other: Caps) -> None:
    merged = one.merged(other.records)

    assert merged.merged(other.records) is merged
    assert one.merged(one.records) is one


@given(some_caps, some_targets, some_shares)
def test_a_cap_never_raises(caps: Caps, target: CapTarget, share: int) -> None:
    """Neither what it is put on, nor anything else."""
    after = caps.capped(target, share, by="ann", reason="slow", at=5.0)

    for version in (7, 8, 9):
        for alias in (CANARY, CHALLENGER):
            for model in ("sentiment", "churn"):
                before, now = caps.share_of(model, alias, version), after.share_of(model, alias, version)
                assert now == before or now < (BUCKETS + 1 if before is None else before)
    held = after.records[target].share
    assert held is not None
    assert held <= share


@given(some_caps, some_targets, some_shares)
def test_a_change_wins_over_all_that_its_gateway_had_seen(caps: Caps, target: CapTarget, share: int) -> None:
    """So a resume after an abort lifts it everywhere, and an abort after a resume holds everywhere."""
    capped = caps.capped(target, share, by="ann", reason="slow", at=0.0)
    lifted = capped.lifted([target], by="bob", reason="mended", at=0.0)

    assert caps.merged(capped.records) == capped
    assert caps.merged(lifted.records) == capped.merged(lifted.records) == lifted
    assert lifted.records[target].share is None


@given(st.integers(1, BUCKETS), st.data())
def test_abort_and_resume_at_opposite_sides_of_a_cut_end_equal_and_capped(
    share: int, data: st.DataObject
) -> None:
    """One side lifts the cap while the other one, which does not know that, lowers it further."""
    lower = data.draw(st.integers(0, share - 1))
    both = Caps().capped(V8, share, by="ann", reason="slow", at=1.0)
    here = both.lifted([V8], by="bob", reason="mended", at=9.0)
    there = both.capped(V8, lower, by="eve", reason="broken", at=2.0)

    assert here.records[V8].counter == there.records[V8].counter
    assert here.merged(there.records) == there.merged(here.records)
    assert here.merged(there.records).share_of("sentiment", CANARY, 8) == lower


def test_a_version_that_comes_back_finds_its_cap_and_another_one_starts_without() -> None:
    caps = Caps().capped(V8, 0, by="ann", reason="slow", at=1.0)

    shares = [caps.share_of("sentiment", CANARY, version) for version in (8, 9, 8)]
    assert shares == [0, None, 0]
    assert caps.share_of("sentiment", CHALLENGER, 8) is None
    assert caps.share_of("churn", CANARY, 8) is None


def test_a_cap_of_all_versions_holds_for_those_to_come_and_the_lower_of_two_holds() -> None:
    caps = Caps().capped(ALL, 1_000, by="ann", reason="no canary today", at=1.0)
    assert caps.share_of("sentiment", CANARY, 99) == 1_000

    caps = caps.capped(V8, 0, by="ann", reason="slow", at=2.0)
    assert [caps.share_of("sentiment", CANARY, version) for version in (8, 9)] == [0, 1_000]
    assert caps.lifted([ALL], by="ann", reason="go on", at=3.0).share_of("sentiment", CANARY, 8) == 0


def test_a_cap_that_is_as_low_already_stays_with_who_set_it() -> None:
    caps = Caps().capped(V8, 500, by="ann", reason="slow", at=1.0)

    assert caps.capped(V8, 500, by="bob", reason="me too", at=2.0) is caps
    assert caps.capped(V8, 2_000, by="bob", reason="less so", at=2.0) is caps
    assert caps.capped(V8, 499, by="bob", reason="worse", at=2.0).records[V8].by == "bob"


def test_what_is_not_capped_is_not_lifted_and_a_lift_keeps_which_alert_set_it() -> None:
    caps = Caps().capped(V8, 0, by="alertmanager", reason="errors", at=1.0, alert="a1@2026")
    lifted = caps.lifted([V8, ALL], by="ann", reason="mended", at=2.0)

    assert list(lifted.records) == [V8]
    assert (lifted.records[V8].counter, lifted.records[V8].alert) == (2, "a1@2026")
    assert lifted.lifted([V8], by="ann", reason="again", at=3.0) is lifted
    assert list(lifted.in_force("sentiment")) == []


def test_a_model_that_is_forgotten_leaves_the_others() -> None:
    caps = Caps().capped(V8, 0, by="ann", reason="slow", at=1.0)
    both = caps.capped(CapTarget("churn", CANARY), 0, by="ann", reason="slow", at=1.0)

    assert both.without({"churn"}) == caps
    assert both.without({"nobody"}) is both


def test_production_has_no_cap() -> None:
    with pytest.raises(ValueError, match="production has no cap"):
        CapTarget("sentiment", PRODUCTION, 8)


def test_a_breaker_is_no_cap_and_a_cap_no_breaker() -> None:
    opened = Caps().capped(BREAKER, 0, by="breaker", reason="50 faults", at=1.0)
    assert opened.share_of("sentiment", CANARY, 8) is None
    assert list(opened.in_force("sentiment")) == []
    assert list(opened.open_breakers("sentiment")) == [BREAKER]

    both = opened.capped(V8, 500, by="ann", reason="slow", at=2.0)
    assert [target for target, _ in both.in_force("sentiment")] == [V8]
    closed = both.lifted([BREAKER], by="breaker", reason="reset", at=3.0)
    assert list(closed.open_breakers("sentiment")) == []
    assert closed.share_of("sentiment", CANARY, 8) == 500


PASSAGE = CapTarget("sentiment", CANARY, 8, passage=True)


def test_that_a_version_passed_the_gate_is_neither_a_cap_nor_a_breaker() -> None:
    passed = Caps().passed(PASSAGE, by="gate", reason="against v7", at=1.0)

    assert list(passed.passages("sentiment")) == [PASSAGE]
    assert list(passed.passages("churn")) == []
    assert passed.passed(PASSAGE, by="gate", reason="again", at=2.0) is passed
    gone = passed.capped(PASSAGE, 0, by="gate", reason="it serves no more", at=3.0)
    for caps in (passed, gone):
        assert list(caps.in_force("sentiment")) == list(caps.open_breakers("sentiment")) == []
        assert caps.share_of("sentiment", CANARY, 8) is None
        assert records_from_json(records_to_json(caps)) == dict(caps.records)
    assert list(gone.passages("sentiment")) == []
    assert passed.merged(gone.records) == gone
    back = gone.passed(PASSAGE, by="gate", reason="against v9", at=4.0)
    assert list(gone.merged(back.records).passages("sentiment")) == [PASSAGE]
    with pytest.raises(ValueError, match="one version"):
        CapTarget("sentiment", CANARY, None, passage=True)


def test_the_record_of_a_version_says_whether_an_override_let_it_through() -> None:
    let_through = Caps().passed(PASSAGE, by="gate", reason="by anna", at=1.0, override=True)
    passed = let_through.passed(PASSAGE, by="gate", reason="against v7", at=2.0)

    assert let_through.records[PASSAGE].overrides
    assert records_from_json(records_to_json(let_through)) == dict(let_through.records)
    assert let_through.passed(PASSAGE, by="gate", reason="again", at=2.0, override=True) is let_through
    assert not passed.records[PASSAGE].overrides
    assert let_through.merged(passed.records) == passed, "what it passed by later stands"
    gone = let_through.capped(PASSAGE, 0, by="gate", reason="it serves no more", at=3.0)
    assert not gone.records[PASSAGE].overrides


def test_what_passed_the_gate_is_forgotten_before_a_cap_and_after_what_serves_no_more() -> None:
    """Also where it is newer: who forgets a cap gives a bad canary its share."""
    left = {
        CapTarget("sentiment", CANARY, n, passage=True): CapRecord(1, 0, "gate", "it serves no more", 9.0)
        for n in range(9, 9 + MOST_RECORDS - 2)
    }
    caps = Caps(left).capped(V8, 0, by="ann", reason="slow", at=1.0)
    caps = caps.passed(PASSAGE, by="gate", reason="against v7", at=2.0)
    full = caps.capped(CapTarget("churn", CANARY, 1), 0, by="ann", reason="slow", at=3.0)

    assert len(full.records) == MOST_RECORDS
    assert {V8, PASSAGE} <= full.records.keys()


def test_a_breaker_is_that_of_one_version() -> None:
    with pytest.raises(ValueError, match="of one version"):
        CapTarget("sentiment", CANARY, None, breaker=True)


def test_a_gateway_that_knows_no_breakers_reads_caps_and_breakers_and_writes_both_again() -> None:
    """Such a one takes a document whole or not at all: no key that it does not know, no target twice."""
    both = Caps().capped(BREAKER, 0, by="breaker", reason="50 faults", at=1.0)
    both = both.capped(V8, 500, by="ann", reason="slow", at=2.0)
    document = records_to_json(both)

    assert document.keys() == {"format", "records"}
    assert document["format"] == 1
    for record in document["records"]:
        assert list(record) == [
            "model",
            "alias",
            "version",
            "counter",
            "to_percent",
            "by",
            "reason",
            "timestamp",
            "alert",
        ]
    targets = [(one["model"], one["alias"], one["version"]) for one in document["records"]]
    assert sorted(targets) == [("sentiment", "breaker of canary", 8), ("sentiment", "canary", 8)]
    assert Caps(records_from_json(document)) == both


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("x" * 501, "501 characters, 500 at most"),
        ("two\nlines", "control characters"),
        ("a bell \x07", "control characters"),
        ("\x1b[31mred", "control characters"),
        ("back \u202eto front", "control characters"),
    ],
)
def test_what_can_be_no_reason_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_reason(text)


def test_a_reason_is_kept_to_the_letter() -> None:
    for text in ("p95 über 2 s — siehe INC-12", "x" * LONGEST_REASON, " x "):
        assert check_reason(text) == text


# As other gateways and the next start read them


@given(some_caps)
def test_what_is_written_is_read_again(caps: Caps) -> None:
    document = json.loads(json.dumps(records_to_json(caps), allow_nan=False))

    assert Caps(records_from_json(document)) == caps


GOOD = records_to_json(Caps().capped(V8, 500, by="ann", reason="slow", at=1.0))["records"][0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"alias": "production"}, "alias: production has no cap"),
        ({"alias": None}, "alias"),
        ({"alias": "breaker of "}, "alias"),
        ({"alias": "breaker of production"}, "alias: production has no cap"),
        ({"alias": "breaker of canary", "version": None}, "version"),
        ({"alias": "gate of "}, "alias"),
        ({"alias": "gate of canary", "version": None}, "version"),
        ({"alias": "a\nb"}, "alias"),
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"version": 8.0}, "version"),
        ({"version": "8"}, "version"),
        ({"counter": 0}, "counter"),
        ({"counter": 2**53}, "counter"),
        ({"counter": True}, "counter"),
        ({"counter": None}, "counter"),
        ({"to_percent": -0.001}, "to_percent"),
        ({"to_percent": 100.001}, "to_percent"),
        ({"to_percent": 0.0005}, "to_percent"),
        ({"to_percent": float("nan")}, "to_percent"),
        ({"to_percent": float("inf")}, "to_percent"),
        ({"to_percent": "5"}, "to_percent"),
        ({"to_percent": False}, "to_percent"),
        ({"to_percent": 10**400}, "to_percent"),
        ({"by": ""}, "by"),
        ({"by": "x" * 501}, "by"),
        ({"by": None}, "by"),
        ({"reason": "two\nlines"}, "reason"),
        ({"reason": ["slow"]}, "reason"),
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": float("nan")}, "timestamp"),
        ({"timestamp": 1e12}, "timestamp"),
        ({"timestamp": None}, "timestamp"),
        ({"alert": "x" * 257}, "alert"),
        ({"alert": None}, "alert"),
        ({"because": "of me"}, "nothing else"),
    ],
    ids=str,
)
def test_a_bad_record_is_named_and_nothing_is_read(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^records\[1\]\..*{named}"):
        records_from_json({"format": 1, "records": [GOOD | {"model": "churn"}, GOOD | change]})


@pytest.mark.parametrize("key", GOOD)
def test_a_record_that_lacks_a_key_is_refused(key: str) -> None:
    lacking = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(ValueError, match=r"^records\[0\]\.\*: must be an object of model"):
        records_from_json({"format": 1, "records": [lacking]})


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"format": 1},
        {"records": []},
        {"format": 2, "records": []},
        {"format": True, "records": []},
        {"format": 1, "records": {}},
        {"format": 1, "records": [None]},
        {"format": 1, "records": [GOOD, GOOD]},
        {"format": 1, "records": [], "more": 1},
        {"format": 1, "records": [{**GOOD, "version": n + 1} for n in range(MOST_RECORDS + 1)]},
    ],
    ids=lambda document: str(document)[:60],
)
def test_what_is_no_document_of_caps_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        records_from_json(document)


@given(some_caps, st.data())
def test_of_two_records_one_stands_however_much_they_have_in_common(caps: Caps, data: st.DataObject) -> None:
    """Else two gateways that hold them would never agree."""
    for record in caps.records.values():
        key = data.draw(st.sampled_from(["share", "by", "reason", "at", "alert"]))
        other = replace(record, **{key: {"share": 3, "at": 4.0}.get(key, "else")})
        assert (other.precedence == record.precedence) is (other == record)


# What others send must not make what is known unreadable


def known(number: int, first: int = 1, share: int | None = 0, at: float = 1.0) -> dict[CapTarget, CapRecord]:
    record = CapRecord(1, share, "ann", "slow", at)
    return {CapTarget("sentiment", CANARY, version): record for version in range(first, first + number)}


@given(some_caps, some_targets, st.none() | some_shares)
def test_a_counter_at_its_end_is_still_read_and_a_cap_then_stands_over_a_lift(
    caps: Caps, target: CapTarget, share: int | None
) -> None:
    """A peer that sends the largest one must not have every cap of the file forgotten at the next start."""
    last = CapRecord(MOST_COUNTER, share, "eve", "broken", 5.0)
    caps = caps.merged({target: last})

    capped = caps.capped(target, 0, by="ann", reason="slow", at=6.0)
    assert Caps(records_from_json(records_to_json(capped))) == capped
    assert caps.merged(capped.records).records[target].share == 0, "others take it over"
    lifted = capped.lifted([target], by="ann", reason="mended", at=7.0)
    assert lifted == capped, "it would come back from whoever knows the cap"


def test_what_is_known_is_never_more_than_what_is_read() -> None:
    """Else the next start would set the whole file aside, and no other gateway would take any of it."""
    caps = Caps(known(5)).merged(known(3 * MOST_RECORDS, first=4, at=2.0))

    assert len(caps.records) == MOST_RECORDS
    assert known(5).keys() <= caps.records.keys(), "what was known stays"
    assert Caps(records_from_json(records_to_json(caps))) == caps
    assert caps.merged(known(3 * MOST_RECORDS, first=4, at=2.0)) is caps


def test_where_there_is_no_room_for_all_caps_come_before_lifts_and_the_newest_first() -> None:
    lifts, caps = known(MOST_RECORDS - 1, share=None, at=9.0), known(2, first=MOST_RECORDS + 1)
    assert caps.keys() <= Caps().merged({**lifts, **caps}).records.keys()

    full = Caps(known(MOST_RECORDS - 1) | known(1, first=MOST_RECORDS, share=None, at=9.0))
    full = full.capped(ALL, 0, by="ann", reason="slow", at=3.0)
    assert (len(full.records), CapTarget("sentiment", CANARY, MOST_RECORDS) in full.records) == (
        MOST_RECORDS,
        False,
    )
    full = full.capped(CapTarget("churn", CANARY), 0, by="ann", reason="slow", at=4.0)
    assert len(full.records) == MOST_RECORDS
    assert ALL in full.records, "the oldest goes"


def test_as_many_records_as_there_may_be_are_a_document_of_the_longest_size_at_most() -> None:
    sign = "\U0001f426"
    text = CapRecord(MOST_COUNTER, 12_345, sign * 500, sign * 500, 1_764_340_000.123456, sign * 256)
    whole = {CapTarget(sign * 256, Alias(sign * 256), 2**53 - 1 - n): text for n in range(MOST_RECORDS)}

    raw = json.dumps(records_to_json(Caps(whole)), ensure_ascii=False).encode()
    assert len(raw) <= MOST_BYTES
    assert len(records_from_json(json.loads(raw))) == MOST_RECORDS


@pytest.mark.parametrize("name", ["fraud\N{NO-BREAK SPACE}model", "\U0001f469\u200d\U0001f4bb", "x" * 256])
def test_whatever_a_model_may_be_called_its_caps_are_read(name: str) -> None:
    """What is not `isprintable` made the whole file unreadable, with the caps of all models."""
    assert check_model_name(name) == name
    caps = Caps().capped(CapTarget(name, CANARY, 8), 0, by="ann", reason="slow", at=1.0)

    assert Caps(records_from_json(records_to_json(caps))) == caps


@pytest.mark.parametrize("name", ["x" * 257, "a\x9b2J", "a\u2028b", "a\ud800", "a\nb", "a/b", " ", ".."])
def test_no_model_has_a_name_that_moves_a_terminal_or_that_no_document_has(name: str) -> None:
    with pytest.raises(ValueError, match="must be the name of a registered model"):
        check_model_name(name)
    with pytest.raises(ValueError, match=r"records\[0\]\.model: must be the name of a registered model"):
        records_from_json({"format": 1, "records": [GOOD | {"model": name}]})
