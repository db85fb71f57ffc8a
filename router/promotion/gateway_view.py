"""What one gateway says of one model in `/v1/state` and `/v1/compare`, as far as a promotion looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from router.core.ids import CANARY, PREVIOUS, PRODUCTION, Alias
from router.promotion.ports import Gateways, NoDocument

_FIGURES = ("requests", "events", "rate")


@dataclass(frozen=True, slots=True)
class GatewayView:
    """One gateway's view of a model that it serves. Fields that an older gateway does not have are empty."""

    gateway: str
    model: str
    names: Mapping[Alias, str]
    """What it reads in the registry, by role."""
    aspired: Mapping[Alias, int | None]
    """What the registry named at its last look, by role."""
    bound: Mapping[Alias, int | None]
    """What it serves, by role."""
    document: Mapping[str, Any]
    """The model's part of `/v1/state`."""
    digest: str
    """Of its configuration."""
    journal_head: str
    """Digest of the last line of its journal; empty without one."""
    break_glass: Mapping[str, Any] | None

    @property
    def share(self) -> float | None:
        """Percent of the keys that the canary has, in force."""
        return _canary_share(self.document.get("split"))

    @property
    def configured_share(self) -> float | None:
        """The same by the configuration."""
        return _canary_share(self.document.get("split_configured"))

    @property
    def verdict(self) -> tuple[str, str]:
        """`pass`, `fail` or `not_enough_data` on the canary, and its sentence."""
        entry = _mapping(_mapping(self.document.get("verdicts")).get(CANARY))
        verdict = entry.get("verdict")
        if verdict not in ("pass", "fail"):
            return "not_enough_data", str(entry.get("why") or "it has not compared this canary yet.")
        return verdict, str(entry.get("why", ""))

    @property
    def rollback_version(self) -> int | None:
        """What production served before, without what it was rolled back from, as far as it remembers."""
        version = _mapping(self.document.get("rollback")).get("version")
        return version if isinstance(version, int) else None

    @property
    def previous_name(self) -> str:
        """What it reads in the registry for the version that was production before."""
        return str(_mapping(self.document.get("rollback")).get("name") or PREVIOUS)

    def version(self, number: int) -> Mapping[str, Any]:
        """What it says of one version; empty for one that it has not."""
        return _mapping(_mapping(self.document.get("versions")).get(str(number)))

    def trouble_of(self, number: int) -> str:
        """Why it does not serve a version that it shall; empty when it has not tried."""
        version = self.version(number)
        return str(version.get("error") or version.get("state") or "")

    def obstacles(self, number: int) -> list[str]:
        """What keeps the canary `number` from its share, caps, an open breaker and break-glass; and the gate,
        where that is asked for, also where it holds nothing."""
        found = []
        if self.break_glass is not None:
            found.append(f"break-glass is on: {self.break_glass.get('why', '')}".rstrip(": "))
        found += [
            f"it is capped to {_short(cap.get('to_percent'))} % by {cap.get('by')}: {cap.get('reason')}"
            for cap in _mappings(self.document.get("caps"))
            if cap.get("alias") == CANARY and cap.get("version") in (None, number)
        ]
        if (why := self._not_passed(number)) is not None:
            found.append(f"it has not passed the gate: {why}")
        breaker = _mapping(self.version(number).get("breaker"))
        if breaker.get("state") == "open":
            found.append(f"its breaker is open: {breaker.get('why')}")
        return found

    def _not_passed(self, number: int) -> str | None:
        """Why the canary `number` has not passed the gate; None where it has, or need not."""
        alias = _mapping(_mapping(self.document.get("aliases")).get(CANARY))
        gate = _mapping(alias.get("gate"))
        if alias.get("bound") != number or gate.get("state") not in ("held", "not_passed", "not_judged"):
            return None
        return str(gate.get("why", ""))


@dataclass(frozen=True, slots=True)
class NoView:
    """Why there is no view of a model at a gateway."""

    why: str
    """A sentence in one line that names the gateway."""
    lacks_model: bool
    """True where it answered and does not serve the model; False where it refused, or did not answer."""


def views_of(gateways: Gateways, model: str) -> dict[str, GatewayView | NoView]:
    """What each gateway says of `model` now, by the gateways' addresses."""
    return {each: _view_or_why(each, model, state) for each, state in gateways.get("/v1/state").items()}


def _view_or_why(gateway: str, model: str, state: Mapping[str, Any] | NoDocument) -> GatewayView | NoView:
    if isinstance(state, NoDocument):
        return NoView(state.why, lacks_model=False)
    return view_of(gateway, model, state) or NoView(f"{gateway} serves no model {model}", lacks_model=True)


def view_of(gateway: str, model: str, state: Mapping[str, Any]) -> GatewayView | None:
    """From a document of `/v1/state`; None where it does not serve `model`."""
    found = _mapping(_mapping(state.get("models")).get(model))
    aliases = {Alias(role): _mapping(one) for role, one in _mapping(found.get("aliases")).items()}
    if not aliases:
        return None
    return GatewayView(
        gateway,
        model,
        names={role: str(one.get("name")) for role, one in aliases.items()},
        aspired={role: one.get("aspired") for role, one in aliases.items()},
        bound={role: one.get("bound") for role, one in aliases.items()},
        document=found,
        digest=str(_mapping(state.get("config")).get("digest", "")),
        journal_head=str(_mapping(_mapping(state.get("state_dir")).get("journal")).get("head") or ""),
        break_glass=state.get("break_glass"),
    )


def evidence_of(view: GatewayView, compared: Mapping[str, Any] | None) -> dict[str, Any]:
    """A verdict with its figures, for the record of a promotion; `compared`: what it has at `/v1/compare`."""
    verdict, why = view.verdict
    entry = _canary_entry(view, compared)
    checks = {str(check.get("check")): _figures(check) for check in _mappings(entry.get("checks"))}
    return {"gateway": view.gateway, "verdict": verdict, "why": why, "checks": checks}


def missing_evidence(view: GatewayView, compared: Mapping[str, Any] | None) -> list[str]:
    """Sentences: the verdict's own, then what each check would need."""
    checks = _mappings(_canary_entry(view, compared).get("checks"))
    return [view.verdict[1], *(str(check["needed"]) for check in checks if check.get("needed"))]


def _canary_entry(view: GatewayView, compared: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Of `/v1/compare`, where that is about the same versions."""
    aliases = _mapping(_mapping(_mapping(compared).get("models")).get(view.model))
    entry = _mapping(aliases.get(CANARY))
    compares = (entry.get("production_version"), entry.get("version"))
    return entry if compares == (view.bound.get(PRODUCTION), view.bound.get(CANARY)) else {}


def _canary_share(split: Any) -> float | None:
    share = _mapping(split).get(CANARY)
    return float(share) if isinstance(share, int | float) else None


def _figures(check: Mapping[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {"verdict": check.get("verdict")}
    for arm in ("production", "canary"):
        if counts := _mapping(check.get(arm)):
            figures[arm] = {name: _short(counts[name]) for name in _FIGURES if name in counts}
    for name in ("difference", "interval", "observed_share"):
        if check.get(name) is not None:
            figures[name] = _short(check[name])
    return figures


def _short(figure: Any) -> Any:
    """Six digits of a number are enough for a record."""
    if isinstance(figure, list):
        return [_short(one) for one in figure]
    if not isinstance(figure, float) or not isfinite(figure):
        return figure
    return int(figure) if figure.is_integer() else float(f"{figure:.6g}")


def _mapping(value: Any) -> Mapping[str, Any]:
    """`value` where it is a mapping; an older gateway may have none there."""
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """Those in `value`, where it is a list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
