"""What is worth a notification, in which words, and under which id."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.events import (
    AliasBound,
    BreakerOpened,
    ConfigApplied,
    Event,
    LoadRefused,
    ModelRemoved,
    RollbackReadyLost,
    SplitInForce,
    VerdictChanged,
    VersionGone,
)
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet
from router.core.notification import KINDS, SAME_CHANGE_SECONDS, Notification, NotificationBuilder
from router.core.preflight_events import PreflightEnded
from tests.support.sample_events import PREFLIGHT_FAILED, one_of_each

AT = 1_700_000_000.0
V7, V8 = VersionId("sentiment", 7), VersionId("sentiment", 8)
CAPPED = CapSet("sentiment", CANARY, V8, 0.0, "alice", "it answers nonsense", AT)


def bound(old: VersionId | None, new: VersionId) -> AliasBound:
    return AliasBound("sentiment", CANARY, old, new, "run8", "sklearn", (), "challenger")


def split(canary: float, in_force: float | None = None, model: str = "sentiment") -> SplitInForce:
    acting = canary if in_force is None else in_force
    return SplitInForce(
        model, {PRODUCTION: 1 - acting, CANARY: acting}, {PRODUCTION: 1 - canary, CANARY: canary}
    )


def notified(*events: Event, at: float = AT) -> list[Notification]:
    builder = NotificationBuilder()
    return [one for event in events for one in builder.notifications(event, at)]


PREFLIGHT_WHY = PREFLIGHT_FAILED.why
WORTH = [
    (
        bound(V7, V8),
        "alias_bound",
        "sentiment canary (challenger in the registry) now serves v8, before v7",
    ),
    (
        bound(None, V8),
        "alias_bound",
        "sentiment canary (challenger in the registry) now serves v8, before nothing",
    ),
    (
        LoadRefused(V8, (CANARY,), "load", "OSError: no /srv/models/secret/model.pkl", 10.0),
        "load_failed",
        "sentiment canary v8 did not load (load): OSError: no …/model.pkl; the next try is in 10 s",
    ),
    (
        LoadRefused(V8, (), "fetch", "refused", None, by_rule=True),
        "load_failed",
        "sentiment v8 did not load (fetch): refused; it is not tried again by itself",
    ),
    (
        VerdictChanged("sentiment", CANARY, V8, V7, "not_enough_data", "fail", "3 points more faults."),
        "verdict_changed",
        "sentiment canary v8 against production v7: FAIL, before NOT ENOUGH DATA. 3 points more faults.",
    ),
    (
        BreakerOpened("sentiment", CANARY, V8, "25 of its last 50 were faults", 80, 25, 0),
        "breaker_opened",
        "sentiment canary v8: its breaker opened, production has its share; 25 of its last 50 were faults",
    ),
    (CAPPED, "cap_set", "sentiment canary v8: capped at 0 % by alice: it answers nonsense"),
    (
        CapSet("sentiment", CANARY, None, 0.025, "alertmanager", "ErrorRate", AT),
        "cap_set",
        "sentiment canary of any version: capped at 2.5 % by alertmanager: ErrorRate",
    ),
    (
        CapLifted("sentiment", CANARY, V8, "bob", "false alarm", AT),
        "cap_lifted",
        "sentiment canary v8: its cap was lifted by bob: false alarm",
    ),
    (
        RollbackReadyLost("sentiment", V8, "1 of 2 workers are loaded: memory was needed"),
        "rollback_ready_lost",
        "sentiment: a rollback to v8 takes longer than it did: 1 of 2 workers are loaded: memory was needed",
    ),
    (
        GateNotPassed(
            "sentiment", CANARY, V8, ("too_old",), "its tag is 170 h old, in /srv/x/key", held=True
        ),
        "gate_not_passed",
        "sentiment canary v8 has not passed the gate and is held at 0: its tag is 170 h old, in …/key",
    ),
    (
        GateNotPassed("sentiment", PRODUCTION, V8, ("no_record",), "it has no tag", held=False),
        "gate_not_passed",
        "sentiment production v8 has not passed the gate and is served all the same: it has no tag",
    ),
    (
        GatePassed("sentiment", CANARY, V8, "passed against v7", override=False, after_all=True),
        "gate_passed",
        "sentiment canary v8 has passed the gate: passed against v7",
    ),
    (
        GatePassed("sentiment", CANARY, V8, "let through by anna: haste", override=True, after_all=False),
        "gate_passed",
        "sentiment canary v8 is let through without having passed the gate: let through by anna: haste",
    ),
    (
        PreflightEnded("sentiment", (CANARY,), V8, PREFLIGHT_FAILED, held=True),
        "preflight_failed",
        f"sentiment canary v8 failed its pre-flight and is held at 0 until it is resumed: {PREFLIGHT_WHY}",
    ),
    (BreakGlassOn("SIGUSR2"), "cap_set", "every canary is off: SIGUSR2"),
    (BreakGlassOff("bob: all is well"), "cap_lifted", "canaries are no longer off: bob: all is well"),
]


@pytest.mark.parametrize(("event", "kind", "text"), WORTH, ids=[text[:60] for *_, text in WORTH])
def test_a_notification_says_what_happened_to_which_version_and_why(
    event: Event, kind: str, text: str
) -> None:
    (one,) = notified(event)

    assert (one.kind, one.text) == (kind, text)
    of_all = isinstance(event, BreakGlassOn | BreakGlassOff)
    assert one.model == one.data["model"] == (None if of_all else "sentiment")
    assert one.data["version"] in (8, None)
    json.dumps(dict(one.data))


def test_a_changed_share_names_the_configuration_that_changed_it() -> None:
    """It is known after the shares are in force."""
    before, after = split(0.05), split(0.1, in_force=0.0)

    (one,) = notified(before, ConfigApplied("aaaa", ()), after, ConfigApplied("3f9c" * 16, ("models…",)))

    assert one.text == (
        "sentiment: the configured shares are production 90 %, canary 10 %, in force production 100 %,"
        " canary 0 %, before production 95 %, canary 5 %; by configuration 3f9c3f9c3f9c"
    )
    assert one.data["config_digest"] == "3f9c" * 16


def test_of_a_change_in_several_steps_the_shares_before_all_of_it_are_named() -> None:
    (one,) = notified(split(0.05), split(0.5), split(0.1), ConfigApplied("3f9c", ()))

    assert (one.data["before"]["canary"], one.data["configured"]["canary"]) == (0.05, 0.1)


def test_a_changed_share_has_one_id_in_whatever_order_shares_are_reported() -> None:
    turned = [
        SplitInForce(one.model, dict(reversed(one.in_force.items())), dict(reversed(one.configured.items())))
        for one in (split(0.05), split(0.1))
    ]
    (here,) = notified(split(0.05), split(0.1), ConfigApplied("3f9c", ()))
    (there,) = notified(*turned, ConfigApplied("3f9c", ()))

    assert here.id == there.id


def test_a_share_in_force_that_a_breaker_lowers_is_no_changed_share() -> None:
    """That it opened is a notification; so is a cap."""
    assert notified(split(0.05), split(0.05, in_force=0.0), ConfigApplied("aaaa", ())) == []


def test_a_model_that_comes_or_leaves_changes_no_share() -> None:
    gone_and_back = (split(0.05), ModelRemoved("sentiment"), split(0.5), ConfigApplied("aaaa", ()))

    assert notified(*gone_and_back) == []


def test_a_version_that_fails_to_load_again_and_again_is_reported_once() -> None:
    """Until it fails for another reason, or is gone."""
    first = LoadRefused(V8, (CANARY,), "load", "ValueError: no such column", 10.0)
    again = LoadRefused(V8, (CANARY,), "load", "ValueError: no such column", 20.0)
    other = LoadRefused(V8, (CANARY,), "load", "MemoryError", 40.0)

    assert [one.data["retry_seconds"] for one in notified(first, again, again, other, again)] == [10, 40, 20]
    assert len(notified(first, VersionGone(V8), again)) == 2


def test_that_a_version_passed_as_was_to_be_expected_is_no_notification() -> None:
    assert notified(GatePassed("sentiment", CANARY, V8, "passed", override=False, after_all=False)) == []


def test_a_version_that_is_reported_anew_is_not_bound_anew() -> None:
    assert notified(bound(V8, V8)) == []


def test_of_every_kind_of_fact_only_these_are_notified() -> None:
    kinds = [one.kind for one in notified(*one_of_each())]

    assert kinds == [
        *("alias_bound", "alias_bound", "breaker_opened"),
        *("cap_set", "cap_lifted"),  # of one version
        *("gate_not_passed", "gate_passed", "preflight_failed"),
        *("cap_set", "cap_lifted"),  # of every canary, by break-glass
        "rollback_ready_lost",
        *("load_failed", "load_failed"),  # for want of a column, then of an address
    ]
    assert {*kinds, "verdict_changed", "share_changed"} == {*KINDS}


changes = st.sampled_from([event for event, *_ in WORTH])


@given(changes, changes, st.floats(0, SAME_CHANGE_SECONDS - 1), st.floats(0, SAME_CHANGE_SECONDS - 1))
def test_ids_are_equal_exactly_where_the_change_is(
    one: Event, other: Event, first: float, second: float
) -> None:
    """On whatever replica, within ten minutes of the clock."""
    start = AT - AT % SAME_CHANGE_SECONDS
    (here,) = notified(one, at=start + first)
    (there,) = notified(other, at=start + second)

    assert (here.id == there.id) == (one == other)
    assert len(here.id) == 32


def test_the_second_move_of_a_night_is_not_taken_for_a_double_of_the_first() -> None:
    (first,) = notified(bound(V7, V8), at=AT)
    (second,) = notified(bound(V7, V8), at=AT + SAME_CHANGE_SECONDS)

    assert first.id != second.id


def test_a_cap_has_one_id_and_one_time_whenever_a_replica_learns_of_it() -> None:
    """Unlike the same cap that is set again."""
    (first,), (late,) = notified(CAPPED, at=AT + 2), notified(CAPPED, at=AT + 86_400)
    (again,) = notified(replace(CAPPED, at=AT + 60), at=AT + 60)

    assert (first.id, first.at) == (late.id, late.at) == (late.id, AT)
    assert again.id != first.id


def test_what_replicas_count_for_themselves_is_not_in_the_id() -> None:
    """Each breaker has seen other requests."""
    here = BreakerOpened("sentiment", CANARY, V8, "25 of its last 50 requests were faults", 80, 25, 0)
    there = BreakerOpened("sentiment", CANARY, V8, "three crashes in 60 s", 4, 3, 3)

    assert notified(here)[0].id == notified(there)[0].id


def test_gateways_that_judge_together_send_one_verdict_under_one_id() -> None:
    def changed(before: str, *, notifies: bool = True) -> VerdictChanged:
        return VerdictChanged("m", CANARY, V8, V7, before, "fail", "faults", "ab:1", AT, notifies=notifies)

    (first,) = notified(changed("not_enough_data"))
    (again,) = NotificationBuilder().notifications(changed("pass"), AT + 3_600)

    assert first.id == again.id
    assert first.at == again.at == AT
    assert notified(changed("pass", notifies=False)) == []
