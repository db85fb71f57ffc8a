"""Lines of the journal: what was served, who changed it and why. Pure; each holds the digest of the last.

A line is one JSON object. `table` shows, of each model that changed (of all in a file's first line), what
decides to whom a key goes; so `assign` answers for the past as it does for the present.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from router.core.ids import CANARY, Alias, VersionId
from router.core.pins import Pins
from router.core.routing import ModelRoutes
from router.core.split import Split

FORMAT = 1
BEGINNING = "0" * 64
"""Digest that the first line of a chain names as that of the line before."""
RESUMED = ("lock_taken", "catch_up")
"""Causes of lines by which a gateway, after a time in which its lines were not kept, says what holds."""
MOST_TABLES = 20
"""Of one model that a folded line lists; where it lists as many, there may have been others."""
_LONGEST_WHY = 200
"""Characters of what is said of a line that can not be read: it may quote the line."""
_FIELDS = ("format", "prev", "time", "gateway", "cause", "details", "table", "gone")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line."""

    at: float
    """Seconds since 1970."""
    gateway: str
    """Host and process, such as `gw-1:4711`: those that write to one chain follow each other."""
    cause: str
    """One of: start, stop, configuration, alias_moved, explained, bound, unbound, out_of_service,
    breaker_opened, breaker_closed, capped, cap_lifted, gate_passed, gate_not_passed, preflight,
    break_glass_on, break_glass_off, pins, lock_taken, catch_up, clock, registry, cache, verdict, changed,
    folded."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able, by cause: who, why, from, to, alias, version, digest. No key, payload or credential.

    Of `folded`, which stands for `count` lines of the cause `of` about `model`: the first was at `since`, and
    until this line the model had its former table, this one or one of `tables`. Where it is `open` more may
    have followed it, up to the next line of that cause and model.
    Of `lock_taken` and `catch_up`: what was from `since` on is in no file before this line.
    Of `clock`: `from`, what the clock said where it now says `at`."""
    table: Mapping[str, ModelRoutes] = field(default_factory=dict)
    """In force from now on, by model; models that are not named are as before."""
    gone: tuple[str, ...] = ()
    """Models that are served no more."""


class DamagedLine(ValueError):
    """What should be a line of a journal can not be read as one; the message says why."""


def digest_of(line: bytes) -> str:
    """SHA-256 of a line without its end, in hexadecimal: what the next line names as `prev`."""
    return sha256(line).hexdigest()


def encode(entry: Entry, prev: str) -> bytes:
    """The line, without its end."""
    document = {
        "format": FORMAT,
        "prev": prev,
        "time": entry.at,
        "gateway": entry.gateway,
        "cause": entry.cause,
        "details": dict(entry.details),
        "table": {model: routes_to_json(routes) for model, routes in entry.table.items()},
        "gone": list(entry.gone),
    }
    return orjson.dumps(document)


def decode(line: bytes) -> tuple[Entry, str]:
    """The entry, and the digest of the line before it. Raises DamagedLine."""
    try:
        document = orjson.loads(line)
        if document["format"] != FORMAT:
            raise DamagedLine(
                f"its format is {repr(document['format'])[:20]}, and this version reads {FORMAT}"
            )
        entry = Entry(
            _seconds(document["time"]),
            str(document["gateway"]),
            str(document["cause"]),
            dict(document["details"]),
            {str(m): routes_from_json(str(m), routes) for m, routes in document["table"].items()},
            tuple(map(str, document["gone"])),
        )
        return entry, str(document["prev"])
    except DamagedLine:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedLine(f"it can not be read: {error}"[:_LONGEST_WHY]) from error


def _seconds(time: Any) -> float:
    if not isinstance(time, int | float):  # a text may be "nan", before and after which nothing is
        raise DamagedLine("its time is no number")
    return float(time)


def log_fields(line: bytes) -> dict[str, Any]:
    """What a line of the gateway's log shows of `line`: its fields, and its digest."""
    return {"digest": digest_of(line), **orjson.loads(line)}


def line_of_log(fields: Mapping[str, Any]) -> bytes:
    """The line that `log_fields` showed, also when further fields are there. Raises DamagedLine."""
    try:
        line = orjson.dumps({name: fields[name] for name in _FIELDS})
    except KeyError as error:
        raise DamagedLine(f"it has no {error}") from error
    except TypeError as error:
        raise DamagedLine(f"it can not be read: {error}") from error
    if digest_of(line) != fields.get("digest"):
        raise DamagedLine("its digest is that of another line")
    return line


def routes_to_json(routes: ModelRoutes) -> dict[str, Any]:
    """What of `routes` decides to whom a key goes; shares in buckets of 100 000."""
    further = routes.configured_split.further
    return {
        "salt": routes.salt,
        "configured": {
            "canary": routes.configured_split.canary,
            **({further[0]: further[1]} if further else {}),
        },
        "in_force": dict(routes.split_in_force.shares()),
        "bound": {alias: version.number for alias, version in routes.bound.items()},
        "aspired": sorted(routes.aspired),
        "broken": sorted(routes.broken),
        "capped": dict(routes.capped),
        "gated": sorted(routes.gated),
        "pins": {"count": routes.pins.count, "digest": routes.pins.digest},
    }


def routes_from_json(model: str, document: Mapping[str, Any]) -> ModelRoutes:
    """The routes that `routes_to_json` showed, with pins of which only count and digest are known.

    Raises ValueError, KeyError or TypeError where it did not.
    """
    others = {Alias(alias): int(share) for alias, share in document["configured"].items()}
    canary = others.pop(CANARY, 0)
    if len(others) > 1:
        raise ValueError("more than one further alias")
    return ModelRoutes(
        model,
        str(document["salt"]),
        Split(canary, next(iter(others.items()), None)),
        bound={Alias(a): VersionId(model, int(number)) for a, number in document["bound"].items()},
        aspired=frozenset(map(Alias, document["aspired"])),
        broken=frozenset(map(Alias, document["broken"])),
        capped={Alias(alias): int(share) for alias, share in document["capped"].items()},
        gated=frozenset(map(Alias, document.get("gated", ()))),  # lines of former versions have none
        pins=Pins(int(document["pins"]["count"]), str(document["pins"]["digest"])),
    )
