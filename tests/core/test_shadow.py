"""Whose requests are copied to whom, and which of two versions is at fault."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION
from router.core.routing import ModelRoutes, assign
from router.core.shadow import ShadowRange, Took, faults, shadow_ranges
from router.core.split import BUCKETS, Split
from tests.core.routes import BOTH, CHALLENGER, EVERYONE, V7, V8, V9, routes, some_keys, some_routes

TENTH = 10_000


def test_the_top_of_productions_range_is_copied() -> None:
    """The challenger has the last tenth; production's own ends below it."""
    assert shadow_ranges(routes(EVERYONE), {CANARY: TENTH, CHALLENGER: 5_000}) == (
        ShadowRange(CANARY, V8, V7, 80_000, 90_000),
        ShadowRange(CHALLENGER, V9, V7, 85_000, 90_000),
    )


def test_what_production_does_not_have_is_not_copied() -> None:
    [one] = shadow_ranges(routes(BOTH, split=Split(95_000)), {CANARY: TENTH})
    assert (one.first, one.end) == (95_000, BUCKETS)
    assert shadow_ranges(routes(BOTH, split=Split(BUCKETS)), {CANARY: TENTH}) == ()


@given(st.integers(0, BUCKETS), st.integers(0, BUCKETS), st.integers(1, BUCKETS))
def test_a_wider_share_of_the_canary_meets_the_copied_keys_last(narrow: int, wide: int, share: int) -> None:
    """As long as production has that many keys, a ramp changes nothing about who is copied."""
    before = shadow_ranges(routes(BOTH, split=Split(narrow)), {CANARY: share})
    after = shadow_ranges(routes(BOTH, split=Split(wide)), {CANARY: share})
    if max(narrow, wide) + share <= BUCKETS:
        assert before == after


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(routes({CANARY: V8}), id="no production"),
        pytest.param(routes({PRODUCTION: V7}), id="nothing bound"),
        pytest.param(routes({PRODUCTION: V7, CANARY: V7}), id="production's own version"),
        pytest.param(routes(BOTH, broken=frozenset({CANARY})), id="broken"),
        pytest.param(routes(BOTH, gated=frozenset({CANARY})), id="held by the gate"),
        pytest.param(routes(BOTH, capped={CANARY: 0}), id="aborted"),
    ],
)
def test_who_is_stopped_or_serves_nothing_else_gets_no_copies(one: ModelRoutes) -> None:
    assert shadow_ranges(one, {CANARY: TENTH}) == ()


def test_a_cap_above_zero_stops_no_shadows() -> None:
    assert shadow_ranges(routes(BOTH, capped={CANARY: 1}), {CANARY: TENTH}) != ()


@given(some_routes, some_keys, st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_only_production_is_copied_and_never_more_than_was_asked_for(
    routes: ModelRoutes, key: str | bytes | None, canary: int, challenger: int
) -> None:
    shares = {CANARY: canary, CHALLENGER: challenger}
    assigned = assign(routes, key)
    for one in shadow_ranges(routes, shares):
        assert 0 < one.end - one.first <= shares[one.alias]
        assert one.version != one.production == routes.bound[PRODUCTION]
        if assigned is not None and assigned.bucket is not None and one.first <= assigned.bucket < one.end:
            assert routes.configured_split.alias_of(assigned.bucket) == PRODUCTION


@pytest.mark.parametrize(("ours", "theirs"), list(product(Took, Took)))
def test_the_rule_of_faults_is_the_same_for_both_and_asks_what_the_other_one_could_answer(
    ours: Took, theirs: Took
) -> None:
    production, canary = faults(ours, theirs)
    assert faults(theirs, ours) == (canary, production)
    answered = ours is Took.ANSWERED, theirs is Took.ANSWERED
    assert (production != canary) == (answered[0] != answered[1])
    if all(answered):
        assert not production
