"""The routing table and the decision made from it: who answers, and why."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.routing import Assignment, ModelRoutes, Reason, RoutingTable, assign
from router.core.split import BUCKETS, Split, bucket_of
from tests.core.routes import (
    BOTH,
    CHALLENGER,
    EVERYONE,
    LOW,
    MIDDLE,
    NOBODY,
    TOP,
    V7,
    V8,
    V9,
    routes,
    some_keys,
    some_routes,
)

KEYED = [
    ("production by hash", routes(EVERYONE), MIDDLE, (PRODUCTION, V7, Reason.HASH, 62121)),
    ("the canary by hash", routes(EVERYONE), LOW, (CANARY, V8, Reason.HASH, 418)),
    ("a further alias by hash", routes(EVERYONE), TOP, (CHALLENGER, V9, Reason.HASH, 90928)),
    ("bytes hash as text does", routes(EVERYONE), LOW.encode(), (CANARY, V8, Reason.HASH, 418)),
    ("an empty key is a key", routes(EVERYONE), "", (PRODUCTION, V7, Reason.HASH, 80627)),
    ("no key", routes(EVERYONE), None, (PRODUCTION, V7, Reason.NO_KEY, None)),
    (
        "no key with a canary that owns everything",
        routes(BOTH, split=Split(BUCKETS)),
        None,
        (PRODUCTION, V7, Reason.NO_KEY, None),
    ),
    (
        "the registry names no canary",
        routes({PRODUCTION: V7}, aspired=frozenset({PRODUCTION})),
        LOW,
        (PRODUCTION, V7, Reason.CANARY_ABSENT, 418),
    ),
    (
        "the registry was never heard",
        routes({PRODUCTION: V7}, aspired=NOBODY),
        LOW,
        (PRODUCTION, V7, Reason.CANARY_ABSENT, 418),
    ),
    (
        "the canary is still loading",
        routes({PRODUCTION: V7}),
        LOW,
        (PRODUCTION, V7, Reason.CANARY_NOT_READY, 418),
    ),
    (
        "a further alias is still loading",
        routes(BOTH),
        TOP,
        (PRODUCTION, V7, Reason.CANARY_NOT_READY, 90928),
    ),
    (
        "a canary the registry has just dropped serves until it is unbound",
        routes(BOTH, aspired=frozenset({PRODUCTION})),
        LOW,
        (CANARY, V8, Reason.HASH, 418),
    ),
    (
        "the breaker is open",
        routes(BOTH, broken=frozenset({CANARY})),
        LOW,
        (PRODUCTION, V7, Reason.BREAKER_OPEN, 418),
    ),
    (
        "a canary's breaker leaves the further alias alone",
        routes(EVERYONE, broken=frozenset({CANARY})),
        TOP,
        (CHALLENGER, V9, Reason.HASH, 90928),
    ),
    (
        "a breaker changes nothing for production's own keys",
        routes(BOTH, broken=frozenset({CANARY})),
        MIDDLE,
        (PRODUCTION, V7, Reason.HASH, 62121),
    ),
    (
        "both aliases on one version",
        routes({PRODUCTION: V7, CANARY: V7}),
        LOW,
        (CANARY, V7, Reason.SAME_VERSION, 418),
    ),
    (
        "both on one version, production's own keys",
        routes({PRODUCTION: V7, CANARY: V7}),
        MIDDLE,
        (PRODUCTION, V7, Reason.HASH, 62121),
    ),
    (
        "production is never broken off, whatever alias it is asked as",
        routes({PRODUCTION: V7, CANARY: V7}, broken=frozenset({CANARY})),
        LOW,
        (CANARY, V7, Reason.SAME_VERSION, 418),
    ),
    (
        "absent outranks a breaker nobody closed",
        routes({PRODUCTION: V7}, aspired=NOBODY, broken=frozenset({CANARY})),
        LOW,
        (PRODUCTION, V7, Reason.CANARY_ABSENT, 418),
    ),
    (
        "not ready outranks a breaker nobody closed",
        routes({PRODUCTION: V7}, broken=frozenset({CANARY})),
        LOW,
        (PRODUCTION, V7, Reason.CANARY_NOT_READY, 418),
    ),
]


@pytest.mark.parametrize(("table", "key", "expected"), [k[1:] for k in KEYED], ids=[k[0] for k in KEYED])
def test_a_key_goes_where_its_bucket_says_and_the_answer_says_why(
    table: ModelRoutes, key: str | bytes | None, expected: tuple[Alias, VersionId, Reason, int | None]
) -> None:
    assert assign(table, key) == Assignment(*expected)


@pytest.mark.parametrize(("table", "key", "expected"), [k[1:] for k in KEYED], ids=[k[0] for k in KEYED])
def test_a_key_made_from_the_body_goes_the_same_way_and_is_no_key(
    table: ModelRoutes, key: str | bytes | None, expected: tuple[Alias, VersionId, Reason, int | None]
) -> None:
    """Its share is exact. Only the plain reason differs: a stand-in must stay visible."""
    alias, version, reason, bucket = expected
    reported = Reason.NO_KEY if reason is Reason.HASH else reason

    assert assign(table, key, keyed=False) == Assignment(alias, version, reported, bucket)


def test_every_reason_is_reached() -> None:
    """By the tables above, `test_pins`, a fallback and direct access: no reason is a dead letter."""
    keyed = {expected[2] for *_, expected in KEYED}

    assert keyed | {Reason.FALLBACK, Reason.DIRECT, Reason.PINNED} == set(Reason)


@given(some_routes, some_keys, st.booleans())
def test_without_production_nobody_answers_and_never_the_canary(
    table: ModelRoutes, key: str | bytes | None, keyed: bool
) -> None:
    bound = {alias: version for alias, version in table.bound.items() if alias != PRODUCTION}

    assert assign(replace(table, bound=bound), key, keyed=keyed) is None


@given(some_routes, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_key_goes_to_the_owner_of_its_bucket_in_the_split_in_force(table: ModelRoutes, key: str) -> None:
    """What is reported as in force is what routes, also beside aliases that serve nothing or are broken."""
    table = replace(table, bound={**table.bound, PRODUCTION: V9})
    got = assign(table, key)

    assert got is not None
    assert got.alias == table.split_in_force.alias_of(bucket_of(table.salt, key))
    assert sum(table.split_in_force.shares().values()) == BUCKETS


@given(some_routes, some_keys, st.booleans())
def test_an_assignment_keeps_its_promises_whatever_the_table(
    table: ModelRoutes, key: str | bytes | None, keyed: bool
) -> None:
    got = assign(table, key, keyed=keyed)

    if got is None:
        assert PRODUCTION not in table.bound
        return
    assert got.version == table.bound[got.alias]
    assert got.bucket == (None if key is None else bucket_of(table.salt, key))
    owner = PRODUCTION if got.bucket is None else table.configured_split.alias_of(got.bucket)
    assert got.alias in (owner, PRODUCTION)
    stood_in = {Reason.CANARY_ABSENT, Reason.CANARY_NOT_READY, Reason.BREAKER_OPEN}
    assert (got.reason in stood_in) is (got.alias != owner)
    if got.alias in table.broken and got.alias != PRODUCTION:
        assert got.version == table.bound[PRODUCTION]
    if got.reason is Reason.HASH:
        assert keyed
        assert key is not None


@given(some_routes, some_keys)
def test_every_replica_with_the_same_table_decides_alike(table: ModelRoutes, key: str | bytes | None) -> None:
    copy = replace(table, bound=dict(table.bound))

    assert assign(table, key) == assign(copy, key)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_raising_the_share_never_returns_a_key_to_production(key: str, one: int, other: int) -> None:
    """Invariant 8, asked of the whole decision; lowering and raising again gives back the same keys."""
    low, high = sorted((one, other))
    at_low, at_high, low_again = (assign(routes(BOTH, split=Split(share)), key) for share in (low, high, low))

    assert at_low is not None
    assert at_high is not None
    assert at_low == low_again
    if at_low.alias == CANARY:
        assert at_high == at_low


def test_a_table_is_replaced_and_can_not_be_edited() -> None:
    """Invariant 1: not through an attribute, a mapping, or the dict it was made from."""
    bound = dict(BOTH)
    model = routes(bound)
    models = {"sentiment": model}
    table = RoutingTable(models)

    bound[CANARY] = V9
    models["churn"] = model

    assert model.bound == BOTH
    assert list(table.models) == ["sentiment"]
    with pytest.raises(FrozenInstanceError):
        table.models = {}  # type: ignore[misc] # frozen is what is tested
    with pytest.raises(FrozenInstanceError):
        model.configured_split = Split()  # type: ignore[misc] # frozen is what is tested
    with pytest.raises(TypeError):
        table.models["churn"] = model  # type: ignore[index] # read-only is what is tested
    with pytest.raises(TypeError):
        model.bound[CANARY] = V9  # type: ignore[index] # read-only is what is tested


def test_a_replaced_table_leaves_the_old_one_as_it_was() -> None:
    """A request that holds the old table ends by it."""
    old = RoutingTable({"sentiment": routes(BOTH)})
    new = RoutingTable({"sentiment": replace(old.models["sentiment"], bound={PRODUCTION: V8})})

    assert old.models["sentiment"].bound == BOTH
    assert new.models["sentiment"].bound == {PRODUCTION: V8}
    assert new.models["sentiment"] != old.models["sentiment"]


def test_an_assignment_names_a_version_and_holds_nothing() -> None:
    """Invariant 3, its shape: a lease belongs to the work, so a decision has none to end or to forget."""
    assert [field.name for field in fields(Assignment)] == [
        "alias",
        "version",
        "reason",
        "bucket",
        "by_split",
    ]
    with pytest.raises(FrozenInstanceError):
        Assignment(CANARY, V8, Reason.HASH, 1).version = V7  # type: ignore[misc] # frozen is what is tested
