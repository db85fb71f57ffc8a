"""What the gate writes is read back whole, counts for the version that it is of, and for no other."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.caps import LONGEST_REASON
from router.core.gate_record import (
    LONGEST_NAME,
    MOST_BYTES,
    GateRecord,
    Objection,
    Override,
    RecordRefused,
    Registered,
    gate_tag,
    objections_to_gate,
    objections_to_override,
    override_tag,
    read_gate_record,
    read_override,
    signing_key,
)
from router.core.ids import LONGEST_MODEL_NAME, VersionId, is_model_name
from router.core.utc import seconds_of, utc
from router.core.verdict import Verdict

KEY, OTHER_KEY = b"k" * 32, b"k" * 31 + b"K"
NOW = 1_795_000_000.0
HOUR = 3600.0
FRAUD_V7 = Registered(VersionId("fraud", 7), "a" * 32, "m-" + "b" * 32, "0123456789ab")
PASSED = GateRecord(
    FRAUD_V7,
    Verdict.PASS,
    against=6,
    at=NOW - HOUR,
    by="ci",
    data="sha256:" + "c" * 64,
    figures={"metric": "roc_auc", "point": 0.0123, "interval": [0.004, 0.0206], "rows": 20_000},
)
LET_PASS = Override(FRAUD_V7, "production is worse than nothing", NOW - HOUR, NOW + HOUR, "anna")

_printable = st.characters(codec="utf-8").filter(str.isprintable)
_numbers = st.integers(1, 2**63 - 1)
_ids = st.none() | st.text(_printable, min_size=1, max_size=64)
_times = st.integers(0, 253_402_300_799).map(float)
_by = st.text(_printable, min_size=1, max_size=LONGEST_NAME)
_json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_registered = st.builds(
    Registered,
    st.builds(VersionId, st.text(min_size=1, max_size=40).filter(is_model_name), _numbers),
    _ids,
    _ids,
    st.text("0123456789abcdef", min_size=12, max_size=12),
)
_records = st.builds(
    GateRecord,
    _registered,
    st.sampled_from(Verdict),
    against=st.none() | _numbers,
    at=_times,
    by=_by,
    data=_ids,
    figures=st.dictionaries(st.text(max_size=20), _json, max_size=4),
)
_overrides = st.builds(
    Override,
    _registered,
    st.text(_printable, min_size=1, max_size=LONGEST_REASON).filter(str.strip),
    _times,
    _times,
    _by,
)


def _as_read(values: Any) -> Any:
    """`values` as JSON has them: infinities are null."""
    return orjson.loads(orjson.dumps(values))


@given(_records, st.none() | st.just(KEY))
def test_a_record_is_read_as_it_was_written(record: GateRecord, key: bytes | None) -> None:
    tag = gate_tag(record, key)
    read = read_gate_record(tag)

    assert len(tag.encode()) <= MOST_BYTES
    assert replace(read, figures={}, left_out=0) == replace(record, figures={})
    assert read.left_out + len(read.figures) == len(record.figures)
    assert list(read.figures.items()) == list(_as_read(record.figures).items())[: len(read.figures)]


@given(_overrides, st.none() | st.just(KEY))
def test_an_override_is_read_as_it_was_written(override: Override, key: bytes | None) -> None:
    assert read_override(override_tag(override, key)) == override


@given(_records)
def test_a_passed_record_counts_by_its_own_key_and_by_no_other(record: GateRecord) -> None:
    """Whatever the figures are: the signature is over the values that a reader finds."""
    passed = replace(record, verdict=Verdict.PASS)
    tag = gate_tag(passed, KEY)

    assert objections_to_gate(tag, passed.of, now=record.at, max_age_seconds=0.0, key=KEY) == {}
    assert objections_to_gate(tag, passed.of, now=record.at, max_age_seconds=0.0) == {}
    other = objections_to_gate(tag, passed.of, now=record.at, max_age_seconds=0.0, key=OTHER_KEY)
    assert list(other) == [Objection.WRONG_SIGNATURE]


@given(_records, st.data())
def test_no_signed_tag_counts_with_one_byte_changed(record: GateRecord, data: st.DataObject) -> None:
    """It is refused, or still says the same: white space is no change."""
    passed = replace(record, verdict=Verdict.PASS)
    tag = bytearray(gate_tag(passed, KEY).encode())
    place = data.draw(st.integers(0, len(tag) - 1))
    tag[place] = data.draw(st.integers(0, 255))
    changed = tag.decode(errors="replace")

    objections = objections_to_gate(changed, passed.of, now=record.at, max_age_seconds=None, key=KEY)

    assert objections or read_gate_record(changed) == read_gate_record(gate_tag(passed, KEY))


@given(_registered, _registered)
def test_a_record_counts_for_the_version_it_is_of_alone(one: Registered, other: Registered) -> None:
    tag = gate_tag(replace(PASSED, of=one), KEY)

    counts = not objections_to_gate(tag, other, now=NOW, max_age_seconds=None, key=KEY)

    assert counts == (one == other)


@pytest.mark.parametrize(
    ("record", "of", "key", "expected"),
    [
        pytest.param(None, FRAUD_V7, None, {"no_record": "it has no tag canary_router.gate"}, id="none"),
        pytest.param(
            PASSED,
            replace(FRAUD_V7, version=VersionId("churn", 7)),
            None,
            {"other_model": "its tag canary_router.gate is of another registered model, fraud v7"},
            id="copied to another model",
        ),
        pytest.param(
            PASSED,
            replace(FRAUD_V7, version=VersionId("fraud", 8)),
            None,
            {"other_version": "its tag canary_router.gate is of another version, fraud v7"},
            id="copied to another version",
        ),
        pytest.param(
            PASSED,
            replace(FRAUD_V7, run_id=None, fingerprint="ba9876543210"),
            None,
            {
                "other_registration": "its tag canary_router.gate is of a version of this number with "
                "another run and another registration"
            },
            id="registered anew",
        ),
        pytest.param(
            replace(PASSED, verdict=Verdict.NOT_ENOUGH_DATA),
            FRAUD_V7,
            None,
            {"not_passed": "the gate's verdict on it is not enough data"},
            id="too little data",
        ),
        pytest.param(
            replace(PASSED, at=NOW - 169 * HOUR),
            FRAUD_V7,
            None,
            {"too_old": "its tag canary_router.gate is 169.0 h old, of 168 h at most"},
            id="old",
        ),
        pytest.param(
            replace(PASSED, at=NOW + 301),
            FRAUD_V7,
            None,
            {
                "ahead": f"its tag canary_router.gate is of {utc(NOW + 301, 'seconds')}, "
                "ahead of this gateway's clock"
            },
            id="of the future",
        ),
        pytest.param(
            PASSED,
            FRAUD_V7,
            KEY,
            {"not_signed": "its tag canary_router.gate is not signed"},
            id="not signed",
        ),
    ],
)
def test_why_a_record_does_not_count_has_a_name_and_a_sentence(
    record: GateRecord | None, of: Registered, key: bytes | None, expected: dict[str, str]
) -> None:
    tag = None if record is None else gate_tag(record)

    assert objections_to_gate(tag, of, now=NOW, max_age_seconds=168 * HOUR, key=key) == expected


def test_all_that_speaks_against_a_record_is_said_at_once() -> None:
    tag = gate_tag(replace(PASSED, verdict=Verdict.FAIL, at=0.0, data=None), OTHER_KEY)

    objections = objections_to_gate(
        tag,
        replace(FRAUD_V7, version=VersionId("fraud", 8)),
        now=NOW,
        max_age_seconds=HOUR,
        key=KEY,
        holdout=True,
        missing=["params.training_data_hash", "description"],
    )

    assert list(objections) == [
        "wrong_signature",
        "other_version",
        "not_passed",
        "too_old",
        "no_holdout",
        "metadata",
    ]
    assert (
        objections[Objection.METADATA]
        == "the registry has no params.training_data_hash, no description of it"
    )


def test_a_record_is_not_too_old_at_its_last_second() -> None:
    tag = gate_tag(PASSED)

    assert objections_to_gate(tag, FRAUD_V7, now=NOW, max_age_seconds=HOUR) == {}
    assert Objection.TOO_OLD in objections_to_gate(tag, FRAUD_V7, now=NOW + 1, max_age_seconds=HOUR)


def test_an_override_lets_pass_until_it_ends() -> None:
    tag = override_tag(LET_PASS, KEY)

    assert objections_to_override(tag, FRAUD_V7, now=NOW + HOUR - 1, key=KEY) == {}
    ended = objections_to_override(tag, FRAUD_V7, now=NOW + HOUR, key=KEY)
    assert ended == {"too_old": f"its tag canary_router.override ended at {utc(NOW + HOUR, 'seconds')}"}
    of_another = objections_to_override(
        tag, replace(FRAUD_V7, version=VersionId("fraud", 8)), now=NOW, key=OTHER_KEY
    )
    assert list(of_another) == ["wrong_signature", "other_version"]
    assert list(objections_to_override(None, FRAUD_V7, now=NOW)) == ["no_record"]


def test_a_signature_is_of_one_tag_and_does_not_count_for_the_other() -> None:
    """Else who may write tags could turn a record of a failed gate into leave to pass it."""
    override = orjson.loads(override_tag(LET_PASS, KEY))
    gate = orjson.loads(gate_tag(PASSED, KEY))
    forged = orjson.dumps({**override, "signature": gate["signature"]}).decode()

    assert list(objections_to_override(forged, FRAUD_V7, now=NOW, key=KEY)) == ["wrong_signature"]


def test_figures_that_a_tag_has_no_room_for_are_left_out_from_the_last() -> None:
    record = replace(PASSED, figures={str(n): "x" * 900 for n in range(10)})

    read = read_gate_record(gate_tag(record, KEY))

    assert (list(read.figures), read.left_out) == (["0", "1", "2"], 7)


def test_the_longest_names_have_room() -> None:
    longest = replace(
        FRAUD_V7,
        version=VersionId("\U0001f600" * LONGEST_MODEL_NAME, 2**63 - 1),
        run_id="r" * 64,
        model_id="m" * 64,
    )
    reason, by = "\U0001f600" * 500, "\U0001f600" * LONGEST_NAME

    assert read_gate_record(gate_tag(replace(PASSED, of=longest, by=by), KEY)).by == by
    assert read_override(override_tag(replace(LET_PASS, of=longest, reason=reason, by=by), KEY)).by == by


VALID = orjson.loads(gate_tag(PASSED))


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("", "it is not JSON"),
        ("[1]", "it is not a JSON object"),
        (" " * 4001, "it is longer than 4000 bytes"),
        ("é" * 2001, "it is longer than 4000 bytes"),
        ({"format": 2}, "its format is 2, and this version reads 1"),
        ({"format": True}, "format is missing, or not a whole number"),
        ({"model": "a/b"}, "model is not the name of a registered model"),
        ({"version": "7"}, "version is not the number of a version"),
        ({"version": True}, "version is not the number of a version"),
        ({"registration": "0123456789aB"}, "registration is not 12 hexadecimal digits"),
        ({"run_id": ""}, "run_id is not printable text of 1 to 128 characters"),
        ({"by": "a\nb"}, "by is not printable text of 1 to 100 characters"),
        ({"verdict": "PASS"}, "verdict is none of pass, fail, not_enough_data"),
        ({"against": 0}, "against is neither the number of a version nor null"),
        ({"figures": []}, "figures is not an object"),
        (
            gate_tag(PASSED).replace('"rows":20000', f'"rows":{"[" * 500}{"]" * 500}'),
            "it is nested too deeply",
        ),
        ({"left_out": -1}, "left_out is not a whole number from 0 on"),
        ({"time": 1_795_000_000}, "time is not a time such as 2026-11-20T14:32:07Z"),
        ({"time": "2026-02-30T00:00:00Z"}, "time is not a time such as 2026-11-20T14:32:07Z"),
        ({"time": "1969-12-31T23:59:59Z"}, "time is not a time such as 2026-11-20T14:32:07Z"),
        ({"signature": 1}, "signature is neither text nor null"),
        ({"more": 1}, "it has more than format, model, version, run_id"),
        ({"data": ...}, "data is missing"),
    ],
)
def test_a_tag_that_says_nothing_says_why(tag: Any, why: str) -> None:
    if isinstance(tag, dict):
        changed = {key: value for key, value in {**VALID, **tag}.items() if value is not ...}
        tag = orjson.dumps(changed).decode()

    with pytest.raises(RecordRefused, match=f"^{why}"):
        read_gate_record(tag)
    unreadable = objections_to_gate(tag, FRAUD_V7, now=NOW, max_age_seconds=None, key=KEY)
    assert list(unreadable) == ["unreadable"]


@given(st.text() | _json.map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()))
def test_whatever_somebody_writes_is_refused_and_never_raises(tag: str) -> None:
    assert list(objections_to_gate(tag, FRAUD_V7, now=NOW, max_age_seconds=1.0)) == ["unreadable"]
    assert list(objections_to_override(tag, FRAUD_V7, now=NOW)) == ["unreadable"]


def test_what_no_reader_would_take_is_not_written() -> None:
    with pytest.raises(ValueError, match="by is not printable"):
        gate_tag(replace(PASSED, by=""))
    with pytest.raises(ValueError, match="reason must not be empty"):
        override_tag(replace(LET_PASS, reason=" "))


def test_a_key_is_what_stands_in_its_file_without_white_space_around_it() -> None:
    assert signing_key(b"  " + KEY + b"\n") == KEY
    for content in (b"", b"k" * 15, b"k" * 4097, b" " * 100):
        with pytest.raises(ValueError, match="it must hold 16 to 4096 bytes, not"):
            signing_key(content)


@given(_times)
def test_a_time_is_read_as_it_is_written(at: float) -> None:
    assert seconds_of(utc(at, "seconds")) == at
