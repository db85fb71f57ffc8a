"""Caps: what holds an alias's share below the configured one, and how gateways agree on them. Pure.

A cap only lowers: the share in force is the smaller of the two. Each change of one takes the highest counter
seen plus one. Of two records of one target the higher counter stands, at equal counters the lower share; so
records may be merged in any order, and as often as one likes, with one and the same result.

An open breaker is a record as well, of a share of 0 and of a target of its own: so it outlives the process
in which it opened, and other gateways open theirs. It is no cap: what lifts caps does not close it.

And so is that a version has passed the gate: without a share as what is lifted, and with a share of 0 once
the version serves no more. A gateway that starts anew, or later than the others, lets through what they do.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any

from router.core.ids import PRODUCTION, Alias, is_model_name
from router.core.split import BUCKETS, BUCKETS_PER_PERCENT, whole_buckets

KEPT_SECONDS = 30 * 86_400.0
"""How long the caps of a model that left the configuration are kept."""
LONGEST_REASON = 500
"""Characters of a reason, and of a name of who acts; 1 at least."""
FORMAT = 1
"""Of `records_to_json`."""
MOST_RECORDS = 2_000
"""That a gateway knows, and so in one document."""
MOST_BYTES = 16 << 20
"""Of such a document, which takes less however long its texts are."""
MOST_COUNTER = 2**53 - 1
"""Of a record. A target whose counter is there can be capped, and never be resumed."""
PREFLIGHT = "pre-flight"
"""Who holds a version that failed it, and what stands for the alert in that record: it acts once, too."""
OVERRIDE = "override"
"""What stands for the alert in the record of a version that the gate let through by an override."""
_LONGEST_NAME = 256
_LATEST = 253_402_300_799.0  # the last second of the year 9999
_BREAKER = "breaker of "
"""Before the alias of a breaker in `records_to_json`. No role of a split has spaces in its name, so a gateway
that knows no such records reads one as the cap of an alias that it does not have, and keeps it."""
_PASSAGE = "gate of "
"""Likewise, of what passed the gate."""
_KEYS = ("model", "alias", "version", "counter", "to_percent", "by", "reason", "timestamp", "alert")


@dataclass(frozen=True, slots=True)
class CapTarget:
    """What a cap is put on: production has none."""

    model: str
    alias: Alias
    version: int | None = None
    """None: the alias, whatever version it serves. Else that version under that alias: another one starts
    without the cap, and one that comes back finds it."""
    breaker: bool = False
    """Whether this is the breaker of that version under that alias, open while the share is 0."""
    passage: bool = False
    """Whether this says that the version, whatever its alias, has passed the gate, while it has no share."""

    def __post_init__(self) -> None:
        if self.alias == PRODUCTION:
            raise ValueError("production has no cap: all that is taken from others goes to it")
        if self.breaker and self.version is None:
            raise ValueError("a breaker is that of one version")
        if self.passage and self.version is None:
            raise ValueError("it is one version that passes the gate")

    @property
    def is_cap(self) -> bool:
        """Whether it is what people and alerts set and lift."""
        return not self.breaker and not self.passage


@dataclass(frozen=True, slots=True)
class CapRecord:
    """The newest word on one target."""

    counter: int
    """1 or more; a change takes the highest that was seen of the target plus one."""
    share: int | None
    """Buckets that the alias keeps, 0 to 100 000; None: the cap is lifted."""
    by: str
    """Who says that he or she did it: a statement, not a proof."""
    reason: str
    at: float
    """Seconds since 1970."""
    alert: str = ""
    """Which alert last set the cap, also after it was lifted; empty where none did. An alert is repeated as
    long as it fires, to any gateway, and acts once."""

    @property
    def holds(self) -> bool:
        """Whether it leaves nothing to a version that failed its pre-flight."""
        return self.share == 0 and self.alert == PREFLIGHT

    @property
    def overrides(self) -> bool:
        """Of a version that was let through: whether without having passed the gate."""
        return self.share is None and self.alert == OVERRIDE

    @property
    def precedence(self) -> tuple[int, int, float, str, str, str]:
        """Of two records of one target the one stands whose precedence is higher."""
        share = BUCKETS + 1 if self.share is None else self.share
        return self.counter, -share, self.at, self.by, self.reason, self.alert


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """Every canary is off, whatever the records say."""

    since: float
    """Seconds since 1970."""
    why: str


@dataclass(frozen=True, slots=True)
class Caps:
    """All records by target, those of lifted caps included; replaced whole and never edited.

    Of more than `MOST_RECORDS` some are forgotten, lifted ones first, of these and of the others the oldest:
    what a gateway knows must always be what others, and the next start, can read.
    """

    records: Mapping[CapTarget, CapRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", MappingProxyType(dict(self.records)))

    def share_of(self, model: str, alias: Alias, version: int) -> int | None:
        """Buckets that `version` keeps under `alias`; None without a cap."""
        both = (CapTarget(model, alias, version), CapTarget(model, alias))
        shares = [record.share for target in both if (record := self.records.get(target))]
        return min((share for share in shares if share is not None), default=None)

    def in_force(self, model: str) -> Iterator[tuple[CapTarget, CapRecord]]:
        """Caps of `model` that are not lifted, also those of versions that serve nowhere now."""
        return ((t, r) for t, r in self._not_lifted(model) if t.is_cap)

    def open_breakers(self, model: str) -> Iterator[CapTarget]:
        """Those of `model`, also of versions that serve nowhere now."""
        return (target for target, _ in self._not_lifted(model) if target.breaker)

    def passages(self, model: str) -> Iterator[CapTarget]:
        """Versions of `model` that have passed the gate and, as far as is known, serve."""
        return (t for t, r in self.records.items() if t.model == model and t.passage and r.share is None)

    def passed(self, target: CapTarget, *, by: str, reason: str, at: float, override: bool = False) -> "Caps":
        """With what says that `target` has passed the gate, or by `override` goes without; the same object
        where that is known."""
        former, alert = self.records.get(target), OVERRIDE if override else ""
        known = former is not None and former.share is None and former.alert == alert
        if former is not None and (known or former.counter >= MOST_COUNTER):
            return self
        return self._with(target, CapRecord(_after(former), None, by, reason, at, alert))

    def capped(
        self, target: CapTarget, share: int, *, by: str, reason: str, at: float, alert: str = ""
    ) -> "Caps":
        """With a cap of `share` buckets on `target`. One that is as low already stays: a cap only lowers."""
        former = self.records.get(target)
        if former is not None and former.share is not None and former.share <= share:
            return self
        return self._with(target, CapRecord(_after(former), share, by, reason, at, alert))

    def lifted(self, targets: Iterable[CapTarget], *, by: str, reason: str, at: float) -> "Caps":
        """Without the caps on `targets`; those that have none are left as they are, and those whose counter
        is at its end: the lift would stand nowhere else."""
        lifted = self
        for target in targets:
            former = lifted.records.get(target)
            if former is not None and former.share is not None and former.counter < MOST_COUNTER:
                record = CapRecord(_after(former), None, by, reason, at, former.alert)
                lifted = lifted._with(target, record)
        return lifted

    def merged(self, other: Mapping[CapTarget, CapRecord]) -> "Caps":
        """Together with what another gateway knows; the same object where that is no news."""
        news = {
            target: record
            for target, record in other.items()
            if (own := self.records.get(target)) is None or own.precedence < record.precedence
        }
        if not news:
            return self
        # What is known already stays: else whoever sends enough could have it forgotten.
        new = [target for target in news if target not in self.records]
        kept = set(most_worth(news, new, MOST_RECORDS - len(self.records)))
        news = {target: news[target] for target in news if target in self.records or target in kept}
        return Caps({**self.records, **news}) if news else self

    def without(self, models: Collection[str]) -> "Caps":
        """Without all that is known of `models`; the same object where that is nothing."""
        kept = {target: record for target, record in self.records.items() if target.model not in models}
        return self if len(kept) == len(self.records) else Caps(kept)

    def _not_lifted(self, model: str) -> Iterator[tuple[CapTarget, CapRecord]]:
        return ((t, r) for t, r in self.records.items() if t.model == model and r.share is not None)

    def _with(self, target: CapTarget, record: CapRecord) -> "Caps":
        others = {one: known for one, known in self.records.items() if one != target}
        kept = set(most_worth(others, others, MOST_RECORDS - 1))
        return Caps({one: known for one, known in others.items() if one in kept} | {target: record})


def check_reason(text: str) -> str:
    """`text` where it may be a reason, or a name of who acts; else ValueError with a sentence."""
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > LONGEST_REASON:
        raise ValueError(f"has {len(text)} characters, {LONGEST_REASON} at most")
    if not text.isprintable():
        raise ValueError("must hold no control characters, line breaks included")
    return text


def records_to_json(caps: Caps) -> dict[str, Any]:
    """All records, lifted ones included, as other gateways and the next start read them."""
    records = [
        {
            "model": target.model,
            "alias": f"{_kind(target)}{target.alias}",
            "version": target.version,
            "counter": record.counter,
            "to_percent": None if record.share is None else record.share / BUCKETS_PER_PERCENT,
            "by": record.by,
            "reason": record.reason,
            "timestamp": record.at,
            "alert": record.alert,
        }
        for target, record in caps.records.items()
    ]
    return {"format": FORMAT, "records": records}


def records_from_json(document: Any) -> dict[CapTarget, CapRecord]:
    """What `records_to_json` showed. Raises ValueError, with a sentence that names the first bad record:
    a document is taken whole or not at all."""
    if not isinstance(document, dict) or document.keys() != {"format", "records"}:
        raise ValueError("must be an object of format and records, and nothing else")
    if not _is_whole(document["format"], FORMAT, FORMAT):
        raise ValueError(f"format: must be {FORMAT}, which this version reads")
    listed = document["records"]
    if not isinstance(listed, list) or len(listed) > MOST_RECORDS:
        raise ValueError(f"records: must be a list of {MOST_RECORDS} at most")
    records: dict[CapTarget, CapRecord] = {}
    for number, one in enumerate(listed):
        try:
            target, record = _record(one)
        except ValueError as error:
            raise ValueError(f"records[{number}].{error}") from None
        if target in records:
            raise ValueError(f"records[{number}]: has the same model, alias and version as a former one")
        records[target] = record
    return records


def _record(one: Any) -> tuple[CapTarget, CapRecord]:
    if not isinstance(one, dict) or one.keys() != set(_KEYS):
        raise ValueError(f"*: must be an object of {', '.join(_KEYS)}, and nothing else")
    target = _target(one)
    if not _is_whole(one["counter"], 1, MOST_COUNTER):
        raise ValueError(f"counter: must be a whole number from 1 to {MOST_COUNTER}")
    for key in ("by", "reason"):
        if not _is_text(one[key], 1, LONGEST_REASON):
            raise ValueError(f"{key}: must be printable text of 1 to {LONGEST_REASON} characters")
    if not _is_text(one["alert"], 0, _LONGEST_NAME):
        raise ValueError(f"alert: must be printable text of {_LONGEST_NAME} characters at most")
    at, percent = one["timestamp"], one["to_percent"]
    if not _is_number(at) or not 0 <= at <= _LATEST:
        raise ValueError("timestamp: must be seconds since 1970")
    if percent is not None and not _is_number(percent):
        raise ValueError("to_percent: must be a number, or null")
    share = None if percent is None else whole_buckets("to_percent:", percent)
    return target, CapRecord(one["counter"], share, one["by"], one["reason"], float(at), one["alert"])


def _target(one: dict[str, Any]) -> CapTarget:
    if not isinstance(one["model"], str) or not is_model_name(one["model"]):
        raise ValueError("model: must be the name of a registered model")
    named = one["alias"] if isinstance(one["alias"], str) else ""
    breaker, passage = named.startswith(_BREAKER), named.startswith(_PASSAGE)
    alias = named.removeprefix(_BREAKER if breaker else _PASSAGE if passage else "")
    if not _is_text(alias, 1, _LONGEST_NAME):
        raise ValueError(f"alias: must be printable text of 1 to {_LONGEST_NAME} characters")
    if alias == PRODUCTION:
        raise ValueError("alias: production has no cap")
    if one["version"] is not None and not _is_whole(one["version"], 1, MOST_COUNTER):
        raise ValueError("version: must be a version's number, or null")
    if breaker and one["version"] is None:
        raise ValueError("version: must be a version's number, as it is that of a breaker")
    if passage and one["version"] is None:
        raise ValueError("version: must be a version's number, as it is what passed the gate")
    return CapTarget(one["model"], Alias(alias), one["version"], breaker, passage)


def _kind(target: CapTarget) -> str:
    return _BREAKER if target.breaker else _PASSAGE if target.passage else ""


def _is_text(value: Any, least: int, most: int) -> bool:
    return isinstance(value, str) and least <= len(value) <= most and value.isprintable()


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)  # which may be too large for a float


def _after(former: CapRecord | None) -> int:
    # At its end it stays, where a cap still stands over a lift: a larger one would be read by nobody.
    return min(former.counter + 1, MOST_COUNTER) if former is not None else 1


def most_worth(
    records: Mapping[CapTarget, CapRecord], targets: Collection[CapTarget], most: int
) -> Collection[CapTarget]:
    """`most` of `targets`: first those with a cap in force, then what passed the gate and serves; of these,
    and of the others, the newest."""
    if len(targets) <= most:
        return targets
    return sorted(targets, key=lambda one: (_worth(one, records[one]), -records[one].at))[: max(0, most)]


def _worth(target: CapTarget, record: CapRecord) -> int:
    """The smaller, the less it may be forgotten."""
    if target.passage:
        return 1 if record.share is None else 2
    return 2 if record.share is None else 0
