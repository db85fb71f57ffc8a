"""What the gate writes on a version, as tags of the registry: that it was judged, or that it may pass anyway.

A tag is one JSON object of at most 4 000 bytes. It names the version that it is of, because MLflow copies the
tags of a version to the copy (`copy_model_version`), and whoever may write the registry may write tags. With
a key it is signed, over all that it says and the name of the tag. Pure; read strictly, as anybody may have
written it.
"""

import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from router.core.caps import check_reason
from router.core.ids import VersionId, is_model_name
from router.core.utc import seconds_of, utc
from router.core.verdict import Verdict

GATE_TAG = "canary_router.gate"
OVERRIDE_TAG = "canary_router.override"
FORMAT = 1
MOST_BYTES = 4000
"""Of a tag: MLflow's server takes 100 000 characters, other registries far less."""
LEAST_KEY_BYTES = 16
"""Of a key's file, without white space at both ends."""
MOST_KEY_BYTES = 4096
LONGEST_NAME = 100
"""Characters of who had it written."""
MOST_AHEAD_SECONDS = 300.0
"""How far a record's time may lie ahead of the reader's clock: two clocks always differ."""
_LONGEST_ID = 128
_LATEST = 253_402_300_799.0  # the last second of the year 9999
_FINGERPRINT = re.compile("[0-9a-f]{12}")
_OF_BOTH = ("format", "model", "version", "run_id", "model_id", "registration")
_OF_A_GATE = (*_OF_BOTH, "verdict", "against", "data", "figures", "left_out", "time", "by", "signature")
_OF_AN_OVERRIDE = (*_OF_BOTH, "reason", "time", "until", "by", "signature")


@dataclass(frozen=True, slots=True)
class Registered:
    """A version as a registry has it: what no other shares, whatever became of its name and number."""

    version: VersionId
    run_id: str | None
    """Run that it was registered from; None where there is none."""
    model_id: str | None
    """LoggedModel that it was registered from."""
    fingerprint: str
    """12 hexadecimal digits, of `agent.source.Registration`: others when a registered model was deleted and
    its versions are numbered from 1 again."""


@dataclass(frozen=True, slots=True)
class GateRecord:
    """That `of` was judged."""

    of: Registered
    verdict: Verdict
    against: int | None
    """Number of the version it was compared with; None: with none."""
    at: float
    """Seconds since 1970, UTC; written in whole seconds."""
    by: str
    """Who had it judged: a statement, not a proof."""
    data: str | None = None
    """Digest of the hold-out; None: there was none."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What it was judged by, JSON-able, the most important first: the last are left out of a tag that would
    be too long."""
    left_out: int = 0
    """Figures that the tag had no room for."""


@dataclass(frozen=True, slots=True)
class Override:
    """That somebody lets `of` pass without the gate."""

    of: Registered
    reason: str
    at: float
    """Seconds since 1970."""
    until: float
    """Seconds since 1970: when it no longer lets a version pass. One that passed before stays."""
    by: str


class Objection(StrEnum):
    """Why a record does not count, or a version is not let through. Names that state, log and notifications
    have, so they stay."""

    NO_RECORD = "no_record"
    UNREADABLE = "unreadable"
    NOT_SIGNED = "not_signed"
    WRONG_SIGNATURE = "wrong_signature"
    OTHER_MODEL = "other_model"
    OTHER_VERSION = "other_version"
    OTHER_REGISTRATION = "other_registration"
    NOT_PASSED = "not_passed"
    TOO_OLD = "too_old"
    AHEAD = "ahead"
    NO_HOLDOUT = "no_holdout"
    METADATA = "metadata"
    NOT_READ = "not_read"
    """The registry did not say what it has of the version."""
    NO_KEY = "no_key"
    """The key by which a signature is checked can not be read."""


Objections = Mapping[Objection, str]
"""A sentence for each, without its subject and its full stop; empty: it counts."""


class RecordRefused(ValueError):
    """A tag that says nothing that could be read; the message says why, in a few words."""


def signing_key(content: bytes) -> bytes:
    """The key in a file's `content`, without white space at both ends. Raises ValueError with a sentence that
    quotes nothing of it."""
    key = content.strip()
    if not LEAST_KEY_BYTES <= len(key) <= MOST_KEY_BYTES:
        raise ValueError(f"it must hold {LEAST_KEY_BYTES} to {MOST_KEY_BYTES} bytes, not {len(key)}")
    return key


def gate_tag(record: GateRecord, key: bytes | None = None) -> str:
    """The value of GATE_TAG, signed where there is a `key`. Raises ValueError for what no reader would take.

    Of `figures` as many as there is room for, from the first.
    """
    names = list(record.figures)
    for kept in range(len(names), -1, -1):
        document = {
            **_identity(record.of),
            "verdict": record.verdict.value,
            "against": record.against,
            "data": record.data,
            "figures": {name: record.figures[name] for name in names[:kept]},
            "left_out": record.left_out + len(names) - kept,
            "time": utc(record.at, "seconds"),
            "by": record.by,
        }
        if len(tag := _signed(GATE_TAG, document, key)) <= MOST_BYTES:
            break
    read_gate_record(tag.decode())
    return tag.decode()


def override_tag(override: Override, key: bytes | None = None) -> str:
    """The value of OVERRIDE_TAG, signed where there is a `key`. Raises ValueError for what no reader would
    take."""
    document = {
        **_identity(override.of),
        "reason": override.reason,
        "time": utc(override.at, "seconds"),
        "until": utc(override.until, "seconds"),
        "by": override.by,
    }
    tag = _signed(OVERRIDE_TAG, document, key).decode()
    read_override(tag)
    return tag


def read_gate_record(tag: str) -> GateRecord:
    """What a value of GATE_TAG says, whoever signed it. Raises RecordRefused."""
    document = _document(tag, _OF_A_GATE)
    figures, left_out = document["figures"], document["left_out"]
    if document["verdict"] not in tuple(Verdict):
        raise RecordRefused(f"verdict is none of {', '.join(Verdict)}")
    if document["against"] is not None and not _is_number_of_version(document["against"]):
        raise RecordRefused("against is neither the number of a version nor null")
    if not isinstance(figures, dict):
        raise RecordRefused("figures is not an object")
    if not isinstance(left_out, int) or isinstance(left_out, bool) or left_out < 0:
        raise RecordRefused("left_out is not a whole number from 0 on")
    return GateRecord(
        _registered(document),
        Verdict(document["verdict"]),
        document["against"],
        _time(document, "time"),
        _text(document, "by", LONGEST_NAME),
        _text_or_none(document, "data"),
        figures,
        left_out,
    )


def read_override(tag: str) -> Override:
    """What a value of OVERRIDE_TAG says, whoever signed it. Raises RecordRefused."""
    document = _document(tag, _OF_AN_OVERRIDE)
    try:
        reason = check_reason(document["reason"] if isinstance(document["reason"], str) else "")
    except ValueError as error:
        raise RecordRefused(f"reason {error}") from None
    return Override(
        _registered(document),
        reason,
        _time(document, "time"),
        _time(document, "until"),
        _text(document, "by", LONGEST_NAME),
    )


def objections_to_gate(
    tag: str | None,
    of: Registered,
    *,
    now: float,
    max_age_seconds: float | None,
    key: bytes | None = None,
    holdout: bool = False,
    missing: Collection[str] = (),
) -> Objections:
    """Why GATE_TAG's value `tag` does not let `of` through: all of it at once, the gravest first.

    `max_age_seconds` None: it does not age. With a `key` it must be signed by it, without one no signature is
    looked at. `holdout`: only an examination on a hold-out counts. `missing`: required metadata that the
    registry does not have of `of`.
    """
    found: dict[Objection, str] = {}
    if tag is None:
        found[Objection.NO_RECORD] = f"it has no tag {GATE_TAG}"
    else:
        try:
            record = read_gate_record(tag)
        except RecordRefused as error:
            found[Objection.UNREADABLE] = f"its tag {GATE_TAG} can not be read: {error}"
        else:
            found |= _objections_to_origin(GATE_TAG, tag, record.of, of, key)
            if record.verdict != Verdict.PASS:
                said = record.verdict.replace("_", " ")
                found[Objection.NOT_PASSED] = f"the gate's verdict on it is {said}"
            found |= _objections_to_time(GATE_TAG, record.at, now)
            if max_age_seconds is not None and now - record.at > max_age_seconds:
                hours = f"{(now - record.at) / 3600:,.1f} h old, of {max_age_seconds / 3600:,g} h at most"
                found[Objection.TOO_OLD] = f"its tag {GATE_TAG} is {hours}"
            if holdout and record.data is None:
                found[Objection.NO_HOLDOUT] = "the gate had no hold-out of it"
    if missing:
        found[Objection.METADATA] = f"the registry has no {', no '.join(missing)} of it"
    return found


def objections_to_override(
    tag: str | None, of: Registered, *, now: float, key: bytes | None = None
) -> Objections:
    """Why OVERRIDE_TAG's value `tag` does not let `of` through; as `objections_to_gate`."""
    if tag is None:
        return {Objection.NO_RECORD: f"it has no tag {OVERRIDE_TAG}"}
    try:
        override = read_override(tag)
    except RecordRefused as error:
        return {Objection.UNREADABLE: f"its tag {OVERRIDE_TAG} can not be read: {error}"}
    found = dict(_objections_to_origin(OVERRIDE_TAG, tag, override.of, of, key))
    found |= _objections_to_time(OVERRIDE_TAG, override.at, now)
    if now >= override.until:
        found[Objection.TOO_OLD] = f"its tag {OVERRIDE_TAG} ended at {utc(override.until, 'seconds')}"
    return found


def _objections_to_origin(
    name: str, tag: str, said: Registered, of: Registered, key: bytes | None
) -> Objections:
    found: dict[Objection, str] = {}
    if key is not None:
        document = orjson.loads(tag)
        signature = document.pop("signature")
        if signature is None:
            found[Objection.NOT_SIGNED] = f"its tag {name} is not signed"
        elif not hmac.compare_digest(str(signature).encode(), _signature(name, document, key).encode()):
            found[Objection.WRONG_SIGNATURE] = f"its tag {name} is not signed by the gate's key"
    if said.version.model != of.version.model:
        found[Objection.OTHER_MODEL] = f"its tag {name} is of another registered model, {said.version}"
    elif said.version != of.version:
        found[Objection.OTHER_VERSION] = f"its tag {name} is of another version, {said.version}"
    elif said != of:
        what = (
            ("run", said.run_id == of.run_id),
            ("logged model", said.model_id == of.model_id),
            ("registration", said.fingerprint == of.fingerprint),
        )
        others = " and ".join(f"another {name}" for name, same in what if not same)
        found[Objection.OTHER_REGISTRATION] = f"its tag {name} is of a version of this number with {others}"
    return found


def _objections_to_time(name: str, at: float, now: float) -> Objections:
    if at - now <= MOST_AHEAD_SECONDS:
        return {}
    return {Objection.AHEAD: f"its tag {name} is of {utc(at, 'seconds')}, ahead of this gateway's clock"}


def _identity(of: Registered) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": of.version.model,
        "version": of.version.number,
        "run_id": of.run_id,
        "model_id": of.model_id,
        "registration": of.fingerprint,
    }


def _signed(name: str, document: Mapping[str, Any], key: bytes | None) -> bytes:
    # Read back: what is signed are the values that a reader finds, where NaN is null and a tuple a list.
    values = orjson.loads(orjson.dumps(dict(document)))
    return orjson.dumps({**values, "signature": None if key is None else _signature(name, values, key)})


def _signature(name: str, document: Mapping[str, Any], key: bytes) -> str:
    """HMAC-SHA256, in hexadecimal, of the tag's name, a line feed and `document` with its keys in order."""
    signed = name.encode() + b"\n" + orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return hmac.new(key, signed, "sha256").hexdigest()


def _document(tag: str, keys: Collection[str]) -> dict[str, Any]:
    # The length in characters first: whoever wrote it must not make reading it slow.
    if len(tag) > MOST_BYTES or len(tag.encode(errors="replace")) > MOST_BYTES:
        raise RecordRefused(f"it is longer than {MOST_BYTES} bytes")
    try:
        document = orjson.loads(tag)
        orjson.dumps(document)  # which takes less deeply nested values; the signature is over what it gives
    except orjson.JSONDecodeError:
        raise RecordRefused("it is not JSON") from None
    except orjson.JSONEncodeError:
        raise RecordRefused("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise RecordRefused("it is not a JSON object")
    number = document.get("format")
    if not isinstance(number, int) or isinstance(number, bool):
        raise RecordRefused("format is missing, or not a whole number")
    if number != FORMAT:
        raise RecordRefused(f"its format is {number}, and this version reads {FORMAT}")
    if missing := [key for key in keys if key not in document]:
        raise RecordRefused(f"{missing[0]} is missing")
    if len(document) > len(keys):
        raise RecordRefused(f"it has more than {', '.join(keys)}")
    if document["signature"] is not None and not isinstance(document["signature"], str):
        raise RecordRefused("signature is neither text nor null")
    return document


def _registered(document: Mapping[str, Any]) -> Registered:
    model, number, fingerprint = document["model"], document["version"], document["registration"]
    if not isinstance(model, str) or not is_model_name(model):
        raise RecordRefused("model is not the name of a registered model")
    if not _is_number_of_version(number):
        raise RecordRefused("version is not the number of a version")
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise RecordRefused("registration is not 12 hexadecimal digits")
    ids = _text_or_none(document, "run_id"), _text_or_none(document, "model_id")
    return Registered(VersionId(model, number), *ids, fingerprint)


def _is_number_of_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63


def _text_or_none(document: Mapping[str, Any], key: str) -> str | None:
    return None if document[key] is None else _text(document, key, _LONGEST_ID)


def _text(document: Mapping[str, Any], key: str, longest: int) -> str:
    value = document[key]
    if not isinstance(value, str) or not 1 <= len(value) <= longest or not value.isprintable():
        raise RecordRefused(f"{key} is not printable text of 1 to {longest} characters")
    return value


def _time(document: Mapping[str, Any], key: str) -> float:
    value = document[key]
    try:
        at = seconds_of(value) if isinstance(value, str) else -1.0
    except ValueError:
        at = -1.0
    if not 0 <= at <= _LATEST:
        raise RecordRefused(f"{key} is not a time such as 2026-11-20T14:32:07Z")
    return at
