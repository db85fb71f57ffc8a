"""Caps canaries for alerts: what Alertmanager sends is looked through, and each alert acts once."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any, Literal

from msgspec import Struct, field

from router.control.caps import CapControl, cap_to_json
from router.core.caps import LONGEST_REASON, CapTarget
from router.core.ids import PRODUCTION, Alias
from router.core.redaction import redact, redact_line
from router.serving.manager import ModelManager
from router.serving.models import ModelSet

ACTION, ABORT = "canary_action", "abort"
"""Label of an alert, and its value, that ask for a cap."""
BY = "alertmanager"
MOST_REMEMBERED = 10_000
"""Alerts that have acted, of which the one that was repeated longest ago is forgotten first."""
_LONGEST_SHOWN = 200


class Alert(Struct, frozen=True):
    """One alert of a webhook; fields that are not needed here are passed over."""

    status: str
    labels: dict[str, str]
    started: str = field(name="startsAt")
    fingerprint: str
    annotations: dict[str, str] = {}

    @property
    def identity(self) -> str:
        """The same whenever and to whomever the alert is repeated, another once it fires anew."""
        return sha256(f"{self.fingerprint}\n{self.started}".encode()).hexdigest()[:32]

    @property
    def reason(self) -> str:
        """What the cap says of itself: the alert's name and summary, of printable characters."""
        name = self.labels.get("alertname", "")
        summary = self.annotations.get("summary") or self.annotations.get("description") or ""
        return redact_line(f"alert {name}: {summary}" if summary else f"alert {name}", LONGEST_REASON)


class AlertmanagerMessage(Struct, frozen=True):
    """What Alertmanager sends; fields that are not needed here are passed over."""

    version: Literal["4"]
    alerts: list[Alert]


class AlertCaps:
    """Caps the canary that an alert names. What fires no more lifts nothing: that is for people."""

    def __init__(self, caps: CapControl, models: ModelSet) -> None:
        self._caps = caps
        self._models = models
        self._acted: OrderedDict[str, None] = OrderedDict()
        """Identities of alerts that have acted here."""

    def take(self, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
        """Do what each of `alerts` asks for; returns, JSON-ready, what that was and why.

        `result`: capped; held, where a cap as low was there; repeated, where the alert has acted before; or
        ignored. Caps are in force when this returns.
        """
        acted = self._caps.alerts()  # also of other gateways, and before a restart
        return [self._take(alert, acted) for alert in alerts]

    def _take(self, alert: Alert, acted: Collection[str]) -> dict[str, Any]:
        targets, why = self._targets(alert)
        if not targets:
            return _outcome(alert, "ignored", why)
        if alert.identity in self._acted or alert.identity in acted:
            self._remember(alert)
            return _outcome(alert, "repeated", "it has acted before; if that was resumed, it stays so")
        held = self._caps.cap(targets, 0, by=BY, reason=alert.reason, alert=alert.identity)
        self._remember(alert)
        new = any(record.alert == alert.identity for record in held.values())
        why = "its canary is capped at 0 %" if new else "its canary was capped at 0 % before"
        outcome = _outcome(alert, "capped" if new else "held", why)
        return {**outcome, "caps": [cap_to_json(*cap) for cap in held.items()]}

    def _targets(self, alert: Alert) -> tuple[list[CapTarget], str]:
        """What it asks to cap; and where that is nothing, why."""
        labels = alert.labels
        if alert.status != "firing":
            return [], f"it is {redact_line(alert.status, 20)}, which lifts nothing"
        if labels.get(ACTION) != ABORT:
            return [], f"it has no label {ACTION}={ABORT}"
        manager = self._models.managers.get(labels.get("model", ""))
        if manager is None:
            return [], "its label model names no registered model of this gateway"
        serving = _serving(manager, labels.get("alias"))
        if "version" in labels:
            serving = [target for target in serving if str(target.version) == labels["version"]]
        return serving, "" if serving else "no canary serves what it names any more"

    def _remember(self, alert: Alert) -> None:
        self._acted[alert.identity] = None
        self._acted.move_to_end(alert.identity)
        if len(self._acted) > MOST_REMEMBERED:
            self._acted.popitem(last=False)


def _serving(manager: ModelManager, alias: str | None) -> list[CapTarget]:
    """What all but production serve, or that `alias` where it is one of them. An alert about production's
    requests, whose label says so, may be meant for the canary beside it."""
    versions = {one: version for one, version in manager.bound.items() if one != PRODUCTION}
    chosen = [Alias(alias)] if alias in versions else list(versions)
    return [CapTarget(manager.model, one, versions[one].number) for one in chosen]


def _outcome(alert: Alert, result: str, why: str) -> dict[str, Any]:
    return {
        "alert": redact(redact_line(alert.labels.get("alertname", ""), _LONGEST_SHOWN)),
        "fingerprint": redact_line(alert.fingerprint, _LONGEST_SHOWN),
        "result": result,
        "why": why,
    }
