"""Which alerts cap which canary, how often, and what is answered of the others."""

from typing import Any

import msgspec
import pytest

from router.control import alerts as module
from router.control.alerts import Alert, AlertCaps, AlertmanagerMessage
from router.control.caps import CapControl
from router.core.caps import CapTarget
from router.core.ids import CANARY, PRODUCTION, Alias
from router.serving.caps import CapsInForce
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts
from tests.support.waiting import until

LABELS = {"alertname": "CanaryErrors", "canary_action": "abort", "model": "sentiment"}
TWO = CapTarget("sentiment", CANARY, 2)


@pytest.fixture
def control(serving: ModelSet, in_force: CapsInForce, facts: Facts) -> CapControl:
    return CapControl(in_force, serving, facts, lambda: 1e9)


@pytest.fixture
def alerts(control: CapControl, serving: ModelSet) -> AlertCaps:
    return AlertCaps(control, serving)


def fires(fingerprint: str = "f1", started: str = "2026-11-20T14:32:00Z", **labels: str) -> Alert:
    return Alert("firing", {**LABELS, **labels}, started, fingerprint, {"summary": "7 % errors\nof v2"})


def results(done: list[dict[str, Any]]) -> list[str]:
    return [one["result"] for one in done]


async def test_a_firing_alert_caps_the_canary_of_its_model(alerts: AlertCaps, control: CapControl) -> None:
    [done] = alerts.take([fires()])

    assert (done["alert"], done["fingerprint"], done["result"]) == ("CanaryErrors", "f1", "capped")
    [cap] = control.of_model("sentiment")
    assert done["caps"] == [cap]
    assert (cap["alias"], cap["version"], cap["to_percent"], cap["by"]) == ("canary", 2, 0.0, "alertmanager")
    assert cap["reason"] == "alert CanaryErrors: 7 % errors of v2"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "resolved"}, "lifts nothing"),
        ({"labels": {}}, "no label canary_action=abort"),
        ({"labels": {**LABELS, "canary_action": "page"}}, "no label canary_action=abort"),
        ({"labels": {**LABELS, "model": "nobody"}}, "names no registered model"),
        ({"labels": {"canary_action": "abort"}}, "names no registered model"),
        ({"labels": {**LABELS, "version": "7"}}, "serves what it names any more"),
        ({"labels": {**LABELS, "version": "two"}}, "serves what it names any more"),
        ({"labels": {**LABELS, "version": "1"}}, "serves what it names any more"),
    ],
)
async def test_an_alert_that_asks_for_nothing_here_does_nothing_and_says_why(
    alerts: AlertCaps, control: CapControl, change: dict[str, Any], why: str
) -> None:
    """`version` 1 is production's."""
    [done] = alerts.take([msgspec.structs.replace(fires(), **change)])

    assert done["result"] == "ignored"
    assert why in done["why"]
    assert control.records()["records"] == []


async def test_an_alert_of_one_version_caps_it_as_long_as_it_serves(
    alerts: AlertCaps, control: CapControl, serving: ModelSet
) -> None:
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: manager.bound[CANARY] == V3)

    assert results(alerts.take([fires(version="2"), fires("f2", version="3")])) == ["ignored", "capped"]
    assert [cap["version"] for cap in control.of_model("sentiment")] == [3]


async def test_an_alert_that_was_too_early_acts_when_it_is_repeated(
    alerts: AlertCaps, serving: ModelSet
) -> None:
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    assert results(alerts.take([fires()])) == ["ignored"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: CANARY in manager.bound)

    assert results(alerts.take([fires()])) == ["capped"]


async def test_of_two_canaries_the_one_is_capped_that_the_alert_names(
    alerts: AlertCaps, control: CapControl, serving: ModelSet
) -> None:
    serving.apply({"sentiment": settings(split={"production": 50, "canary": 40, "challenger": 10})})
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2, Alias("challenger"): V3})
    await until(lambda: len(manager.bound) == 3)

    assert results(alerts.take([fires(alias="challenger")])) == ["capped"]
    assert [cap["alias"] for cap in control.of_model("sentiment")] == ["challenger"]
    assert results(alerts.take([fires("f2", alias="production")])) == ["capped"]
    assert {cap["alias"] for cap in control.of_model("sentiment")} == {"canary", "challenger"}


async def test_an_alert_acts_once_also_after_it_was_resumed(alerts: AlertCaps, control: CapControl) -> None:
    assert results(alerts.take([fires(), fires()])) == ["capped", "repeated"]
    control.lift([TWO], by="ann", reason="it is the data")

    assert results(alerts.take([fires()])) == ["repeated"]
    assert control.of_model("sentiment") == []
    again = fires(started="2026-11-20T18:00:00Z")
    assert results(alerts.take([again])) == ["capped"], "it was over in between, and fires anew"


async def test_an_alert_that_found_its_canary_capped_does_not_cap_it_when_that_is_resumed(
    alerts: AlertCaps, control: CapControl
) -> None:
    control.cap([TWO], 0, by="ann", reason="slow")
    [done] = alerts.take([fires()])
    assert (done["result"], done["caps"][0]["by"]) == ("held", "ann")
    control.lift([TWO], by="ann", reason="mended")

    assert results(alerts.take([fires()])) == ["repeated"]
    assert control.of_model("sentiment") == []


async def test_a_repeat_that_reaches_another_gateway_after_the_resume_does_not_cap_either(
    alerts: AlertCaps, control: CapControl, serving: ModelSet, facts: Facts
) -> None:
    """A balancer sends it anywhere; and a gateway may have been started again meanwhile."""
    alerts.take([fires()])
    control.lift([TWO], by="ann", reason="mended")
    there = CapControl(CapsInForce(), serving, facts, lambda: 1e9)
    there.merge(control._known.records)

    assert results(AlertCaps(there, serving).take([fires()])) == ["repeated"]
    assert there.of_model("sentiment") == []


async def test_what_is_remembered_of_alerts_is_bounded(
    alerts: AlertCaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    alerts.take([fires(f"f{number}") for number in range(5)])

    assert len(alerts._acted) == 3
    assert results(alerts.take([fires("f4")])) == ["repeated"]


@pytest.mark.parametrize(
    ("labels", "annotations", "reason"),
    [
        ({"alertname": "A"}, {}, "alert A"),
        ({"alertname": "A"}, {"description": "b"}, "alert A: b"),
        ({}, {"summary": "\x1b[31mred\x07"}, "alert : ?[31mred?"),
        ({"alertname": "A" * 9_999}, {}, "alert " + "A" * 493 + "…"),
    ],
)
def test_the_reason_is_made_of_what_others_wrote_and_is_a_reason_all_the_same(
    labels: dict[str, str], annotations: dict[str, str], reason: str
) -> None:
    assert Alert("firing", labels, "t", "f", annotations).reason == reason


def test_a_webhook_of_alertmanager_is_read() -> None:
    """As version 0.27 sends one, shortened."""
    sent = b"""{"receiver":"canary","status":"firing","alerts":[{"status":"firing","labels":
    {"alertname":"CanaryErrors","canary_action":"abort","model":"sentiment"},"annotations":{"summary":"s"},
    "startsAt":"2026-11-20T14:32:10.123Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p:9090/graph",
    "fingerprint":"c1a0"}],"groupLabels":{},"commonLabels":{},"commonAnnotations":{},
    "externalURL":"http://a:9093","version":"4","groupKey":"{}:{}","truncatedAlerts":0}"""
    [alert] = msgspec.json.decode(sent, type=AlertmanagerMessage).alerts

    assert (alert.fingerprint, alert.started, alert.labels) == ("c1a0", "2026-11-20T14:32:10.123Z", LABELS)
