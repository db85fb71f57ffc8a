"""What a line of the journal says of one model, in words."""

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from router.core.ids import PRODUCTION, Alias
from router.core.journal import Entry
from router.core.routing import ModelRoutes
from router.core.split import BUCKETS_PER_PERCENT
from router.core.utc import utc

_VERDICTS = {"pass": "pass", "fail": "FAIL", "not_enough_data": "not enough data"}
_LEAST_DIGEST = 12

Details = Mapping[str, Any]


def concerns(entry: Entry, model: str) -> bool:
    """Whether `entry` says something of `model`, or of its whole gateway."""
    if model in entry.table or model in entry.gone:
        return True
    named, changes = entry.details.get("model"), entry.details.get("changes")
    if named is None and changes and isinstance(changes, list):
        return any(_is_of(str(path), model) for path in changes)
    return named == model or (named is None and not entry.table and not entry.gone)


def sentence_of(entry: Entry, model: str, before: ModelRoutes | None) -> str:
    """What happened, by whom and why; `before` is what its gateway served until then."""
    if model in entry.gone:
        return "the model left the configuration"
    said = _SENTENCES.get(entry.cause, _any)(entry, entry.details)
    after = entry.table.get(model)
    changes = _configured(before, after) if before is not None and after is not None else []
    return f"{said}: {', '.join(changes)}" if changes else said


def shares_of(routes: ModelRoutes | None) -> list[str]:
    """A line per alias: what it serves and its share in force, with why that is below the configured one."""
    if routes is None:
        return ["not served"]
    in_force, configured = routes.split_in_force.shares(), routes.configured_split.shares()
    aliases = [
        alias for alias in configured if alias == PRODUCTION or configured[alias] or alias in routes.bound
    ]
    return [
        f"{alias} {_served(routes, alias)} {percent(in_force[alias])}{_why(routes, alias)}"
        for alias in aliases
    ]


def shares_json(routes: ModelRoutes | None) -> dict[str, Any] | None:
    """The same, JSON-able: by alias its version, and its shares in percent."""
    if routes is None:
        return None
    in_force, configured = routes.split_in_force.percentages(), routes.configured_split.percentages()
    return {
        alias: {
            "version": version.number if (version := routes.bound.get(alias)) else None,
            "share": in_force[alias],
            "configured": configured[alias],
            "capped": alias in routes.capped,
            "breaker_open": alias in routes.broken,
            "gated": alias in routes.gated,
        }
        for alias in configured
    }


def plain(text: str) -> str:
    """`text` without what moves a terminal's cursor: whoever can write to a log could have put it there."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)


def percent(buckets: int) -> str:
    """`5 %` of a number of buckets."""
    return f"{buckets / BUCKETS_PER_PERCENT:g} %"


def _is_of(path: str, model: str) -> bool:
    """Whether the dotted `path` of a changed setting is of `model`, or of the whole gateway."""
    return not path.startswith("models.") or f"{path}.".startswith(f"models.{model}.")


def _served(routes: ModelRoutes, alias: Alias) -> str:
    version = routes.bound.get(alias)
    return f"v{version.number}" if version is not None else "–"


def _why(routes: ModelRoutes, alias: Alias) -> str:
    in_force, configured = routes.split_in_force.shares()[alias], routes.configured_split.shares()[alias]
    if alias == PRODUCTION or in_force == configured:
        return ""
    if alias not in routes.bound:
        return f" of {percent(configured)}"
    why = "gated" if alias in routes.gated else "breaker" if alias in routes.broken else "capped"
    return f" of {percent(configured)} ({why})"


def _configured(before: ModelRoutes, after: ModelRoutes) -> list[str]:
    """What differs of what the configuration says."""
    old, new = before.configured_split.shares(), after.configured_split.shares()
    changes = [
        f"{alias} {percent(old.get(alias, 0))} → {percent(new.get(alias, 0))}"
        for alias in {**old, **new}
        if alias != PRODUCTION and old.get(alias, 0) != new.get(alias, 0)
    ]
    return changes + ([f"salt {before.salt} → {after.salt}"] if before.salt != after.salt else [])


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)


def _text(details: Details, name: str) -> str:
    """Empty where it is not there."""
    value = details.get(name)
    return "" if value is None else str(value)


def _by_and_why(details: Details) -> str:
    """` by ann: slow`, or as much of that as is known."""
    who, why = _text(details, "by"), _text(details, "why")
    return (f" by {who}" if who else "") + (f": {why}" if why else "")


def _version(details: Details, name: str) -> str:
    number = _text(details, name)
    return f"v{number}" if number.isdigit() else number or "–"


def _target(details: Details) -> str:
    """`canary v8`, or the alias alone where whatever it serves is meant."""
    number = details.get("version")
    return f"{_text(details, 'alias')} v{number}" if number is not None else _text(details, "alias")


def _start(entry: Entry, details: Details) -> str:
    digest = _text(details, "configuration")[:_LEAST_DIGEST]
    return f"{entry.gateway} started" + (f", configuration {digest}" if digest else "")


def _stop(entry: Entry, _: Details) -> str:
    return f"{entry.gateway} stopped"


def _joins(entry: Entry, details: Details) -> str:
    since = details.get("since")
    said = f"{entry.gateway} writes the journal from here on"
    return f"{said}, its lines since {utc(since, 'seconds')} are in its log" if _is_number(since) else said


def _clock(entry: Entry, details: Details) -> str:
    before = details.get("from")
    said = f"the clock was set to {utc(entry.at, 'seconds')}"
    return f"{said} from {utc(before, 'seconds')}" if _is_number(before) else said


def _configuration(_: Entry, details: Details) -> str:
    return f"configuration {_text(details, 'digest')[:_LEAST_DIGEST]}".rstrip()


def _changed(_: Entry, __: Details) -> str:
    return "the routes changed"


def _alias_moved(_: Entry, details: Details) -> str:
    moved = f"the registry moved {_text(details, 'alias')}"
    return f"{moved} {_version(details, 'from')} → {_version(details, 'to')}"


def _bound(_: Entry, details: Details) -> str:
    new, old = _version(details, "to"), _version(details, "from")
    return f"{_text(details, 'alias')} serves {new}" + (f", before {old}" if old != "–" else "")


def _unbound(_: Entry, details: Details) -> str:
    old = _version(details, "from")
    return f"{_text(details, 'alias')} serves nothing" + (f", before {old}" if old != "–" else "")


def _out_of_service(_: Entry, details: Details) -> str:
    return f"{_target(details)} makes way for {_version(details, 'successor')}"


def _cache(_: Entry, details: Details) -> str:
    versions = details.get("versions")
    named = versions if isinstance(versions, Mapping) else {}
    listed = ", ".join(f"{alias} v{number}" for alias, number in named.items())
    return f"the registry is not there, what served last is loaded: {listed}"


def _act(what: str) -> Callable[[Entry, Details], str]:
    """A sentence that says only what was done, by whom and why; `{target}` in `what` is the canary."""
    return lambda _, details: what.format(target=_target(details)) + _by_and_why(details)


def _capped(_: Entry, details: Details) -> str:
    share = details.get("share")
    at = f" at {share * 100:g} %" if _is_number(share) else ""
    return f"{_target(details)} capped{at}{_by_and_why(details)}"


def _pins(_: Entry, details: Details) -> str:
    return f"pins changed: {_text(details, 'count') or 0} keys"


def _registry(_: Entry, details: Details) -> str:
    return f"the registry {_text(details, 'registry') or 'changed'}"


def _verdict(_: Entry, details: Details) -> str:
    before, now = (
        _VERDICTS.get(_text(details, name), _text(details, name)) for name in ("before", "verdict")
    )
    change = f"{before} → {now}" if before else now
    return f"{_target(details)} against v{_text(details, 'production')}: {change}{_by_and_why(details)}"


def _preflight(_: Entry, details: Details) -> str:
    verdict = _VERDICTS.get(_text(details, "verdict"), _text(details, "verdict").replace("_", " "))
    held = ", held at 0" if details.get("held") is True else ""
    return f"{_target(details)} pre-flight: {verdict}{held}{_by_and_why(details)}"


def _folded(entry: Entry, details: Details) -> str:
    of, since, last = _text(details, "of"), details.get("since"), details.get("last")
    said = f"{_text(details, 'count')} × {of.replace('_', ' ')}, folded into one line"
    if _is_number(since):
        said += f" since {utc(since, 'seconds')}"
    if isinstance(last, Mapping) and last and of in _SENTENCES and of != "folded":
        said += f"; the last: {_SENTENCES[of](entry, last)}"
    return f"{said}; more may follow" if details.get("open") else said


def _any(entry: Entry, details: Details) -> str:
    shown = ", ".join(f"{name} {value}" for name, value in details.items() if name != "model")
    return f"{entry.cause.replace('_', ' ')}{': ' if shown else ''}{shown}"


_SENTENCES: dict[str, Callable[[Entry, Details], str]] = {
    "start": _start,
    "stop": _stop,
    "lock_taken": _joins,
    "catch_up": _joins,
    "clock": _clock,
    "configuration": _configuration,
    "alias_moved": _alias_moved,
    "explained": _act("moved in the registry"),
    "bound": _bound,
    "unbound": _unbound,
    "out_of_service": _out_of_service,
    "cache": _cache,
    "changed": _changed,
    "breaker_opened": _act("breaker of {target} opened"),
    "breaker_closed": _act("breaker of {target} closed"),
    "capped": _capped,
    "cap_lifted": _act("cap on {target} lifted"),
    "gate_passed": _act("{target} passed the gate"),
    "gate_not_passed": _act("{target} did not pass the gate"),
    "preflight": _preflight,
    "break_glass_on": _act("break-glass, every canary is off"),
    "break_glass_off": _act("break-glass is over"),
    "pins": _pins,
    "registry": _registry,
    "verdict": _verdict,
    "folded": _folded,
}
