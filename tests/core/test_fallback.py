"""The second decision after the canary failed, and direct access, which has none."""

import pytest
from hypothesis import given

from router.core.ids import CANARY, PRODUCTION
from router.core.routing import (
    Assignment,
    ModelRoutes,
    Reason,
    assign,
    assign_direct,
    assign_fallback,
    assign_version,
)
from router.core.split import Split
from tests.core.routes import BOTH, CHALLENGER, LOW, V7, V8, V9, routes, some_keys, some_routes


def test_a_fallback_is_a_second_decision_from_the_table_of_now() -> None:
    """Production moved from 7 to 9 while the canary ran: 9 is asked."""
    first = assign(routes(BOTH), LOW)
    assert first is not None

    second = assign_fallback(routes({PRODUCTION: V9, CANARY: V8}), first)

    assert second == Assignment(PRODUCTION, V9, Reason.FALLBACK, 418)


@given(some_routes, some_routes, some_keys)
def test_a_fallback_goes_to_production_or_to_nobody(
    then: ModelRoutes, now: ModelRoutes, key: str | bytes | None
) -> None:
    first = assign(then, key)
    if first is None:
        return
    second = assign_fallback(now, first)

    if second is None:
        nobody_better = now.bound.get(PRODUCTION) in (None, first.version)
        assert first.alias == PRODUCTION or first.reason is Reason.SAME_VERSION or nobody_better
    else:
        assert second == Assignment(PRODUCTION, now.bound[PRODUCTION], Reason.FALLBACK, first.bucket)
        assert second.version != first.version
        assert first.alias != PRODUCTION


@pytest.mark.parametrize(
    "first",
    [
        Assignment(PRODUCTION, V7, Reason.HASH, 62121),
        Assignment(PRODUCTION, V7, Reason.NO_KEY, None),
        Assignment(PRODUCTION, V7, Reason.BREAKER_OPEN, 418),
        Assignment(PRODUCTION, V7, Reason.CAPPED, 418),
        Assignment(PRODUCTION, V7, Reason.FALLBACK, 418),
        Assignment(CANARY, V7, Reason.SAME_VERSION, 418),
        Assignment(CANARY, V8, Reason.DIRECT, None),
    ],
    ids=lambda first: f"{first.alias} {first.reason}",
)
def test_what_production_or_a_direct_request_failed_is_not_tried_again(first: Assignment) -> None:
    """Also not when production has moved to another version in the meantime: it may be the caller's fault,
    or a predict that ran out of time, and running it twice helps neither."""
    assert assign_fallback(routes({PRODUCTION: V9, CANARY: V8}), first) is None


def test_a_canary_promoted_while_it_failed_has_nobody_to_fall_back_to() -> None:
    first = Assignment(CANARY, V8, Reason.HASH, 418)

    assert assign_fallback(routes({PRODUCTION: V8, CANARY: V8}), first) is None
    assert assign_fallback(routes({}), first) is None


def test_direct_access_takes_what_is_bound_whatever_split_and_breaker_say() -> None:
    table = routes(BOTH, broken=frozenset({CANARY}), split=Split(0))

    assert assign_direct(table, CANARY) == Assignment(CANARY, V8, Reason.DIRECT, None)
    assert assign_direct(table, PRODUCTION) == Assignment(PRODUCTION, V7, Reason.DIRECT, None)
    assert assign_direct(table, CHALLENGER) is None


def test_a_version_is_asked_by_its_number_and_production_speaks_for_both_aliases() -> None:
    table = routes(BOTH, broken=frozenset({CANARY}), split=Split(0))

    assert assign_version(table, V8.number) == Assignment(CANARY, V8, Reason.DIRECT, None)
    assert assign_version(table, 1) is None
    same = routes({CANARY: V8, PRODUCTION: V8})
    assert assign_version(same, V8.number) == Assignment(PRODUCTION, V8, Reason.DIRECT, None)
