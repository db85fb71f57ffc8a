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
    some_caps,
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
    (
        "the canary is capped below the key",
        routes(BOTH, capped={CANARY: 418}),
        LOW,
        (PRODUCTION, V7, Reason.CAPPED, 418),
    ),
    (
        "the canary is capped above the key",
        routes(BOTH, capped={CANARY: 419}),
        LOW,
        (CANARY, V8, Reason.HASH, 418),
    ),
    (
        "a canary's cap leaves the further alias alone",
        routes(EVERYONE, capped={CANARY: 0}),
        TOP,
        (CHALLENGER, V9, Reason.HASH, 90928),
    ),
    (
        "a further alias keeps its top end",
        routes(EVERYONE, capped={CHALLENGER: BUCKETS - 90_928}),
        TOP,
        (CHALLENGER, V9, Reason.HASH, 90928),
    ),
    (
        "and loses what is below it",
        routes(EVERYONE, capped={CHALLENGER: BUCKETS - 90_929}),
        TOP,
        (PRODUCTION, V7, Reason.CAPPED, 90928),
    ),
    (
        "a cap changes nothing for production's own keys",
        routes(BOTH, capped={CANARY: 0}),
        MIDDLE,
        (PRODUCTION, V7, Reason.HASH, 62121),
    ),
    (
        "a cap outranks the breaker: it stays when that is reset",
        routes(BOTH, broken=frozenset({CANARY}), capped={CANARY: 0}),
        LOW,
        (PRODUCTION, V7, Reason.CAPPED, 418),
    ),
    (
        "what a cap leaves is broken off all the same",
        routes(BOTH, broken=frozenset({CANARY}), capped={CANARY: 419}),
        LOW,
        (PRODUCTION, V7, Reason.BREAKER_OPEN, 418),
    ),
    (
        "what the gate holds gets nothing",
        routes(BOTH, gated=frozenset({CANARY})),
        LOW,
        (PRODUCTION, V7, Reason.GATED, 418),
    ),
    (
        "the gate outranks a cap and the breaker: neither resume nor reset lifts it",
        routes(BOTH, broken=frozenset({CANARY}), capped={CANARY: 0}, gated=frozenset({CANARY})),
        LOW,
        (PRODUCTION, V7, Reason.GATED, 418),
    ),
    (
        "a canary that the gate holds leaves the further alias alone",
        routes(EVERYONE, gated=frozenset({CANARY})),
        TOP,
        (CHALLENGER, V9, Reason.HASH, 90928),
    ),
    (
        "the gate changes nothing for production's own keys",
        routes(BOTH, gated=frozenset({CANARY})),
        MIDDLE,
        (PRODUCTION, V7, Reason.HASH, 62121),
    ),
    (
        "production's version is never held, whatever alias it is asked as",
        routes({PRODUCTION: V7, CANARY: V7}, gated=frozenset({CANARY})),
        LOW,
        (CANARY, V7, Reason.SAME_VERSION, 418),
    ),
    (
        "absent outranks a cap of what may come",
        routes({PRODUCTION: V7}, aspired=NOBODY, capped={CANARY: 0}),
        LOW,
        (PRODUCTION, V7, Reason.CANARY_ABSENT, 418),
    ),
    (
        "production's version has no cap, whatever alias it is asked as",
        routes({PRODUCTION: V7, CANARY: V7}, capped={CANARY: 0}),
        LOW,
        (CANARY, V7, Reason.SAME_VERSION, 418),
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
    """What is reported as in force is what routes, also beside aliases that serve nothing, or production's
    version, or are broken, capped or gated."""
    table = replace(table, bound={PRODUCTION: V9, **table.bound})
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
    held = {Reason.BREAKER_OPEN, Reason.CAPPED, Reason.GATED}
    stood_in = {Reason.CANARY_ABSENT, Reason.CANARY_NOT_READY, *held}
    assert (got.reason in stood_in) is (got.alias != owner)
    if got.alias in table.broken | table.gated and got.alias != PRODUCTION:
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


@given(some_routes, some_keys, some_caps)
def test_capping_takes_keys_from_nobody_but_the_capped_and_resuming_returns_the_same_ones(
    table: ModelRoutes, key: str | bytes | None, capped: dict[Alias, int]
) -> None:
    free = replace(table, capped={}, gated=frozenset())
    table = replace(table, gated=frozenset())
    before, meanwhile, after = (assign(one, key) for one in (free, replace(table, capped=capped), free))

    assert before == after
    if before is not None and meanwhile is not None and meanwhile != before:
        assert before.alias in capped or before.reason is Reason.BREAKER_OPEN
        assert (meanwhile.alias, meanwhile.reason) == (PRODUCTION, Reason.CAPPED)


@given(some_routes, some_caps)
def test_the_share_in_force_is_the_smaller_of_the_configured_one_and_the_cap(
    table: ModelRoutes, capped: dict[Alias, int]
) -> None:
    free, held = replace(table, capped={}), replace(table, capped=capped)
    before, after = free.split_in_force.shares(), held.split_in_force.shares()

    for alias in (CANARY, CHALLENGER):
        same = table.bound.get(alias) == table.bound.get(PRODUCTION)
        assert after[alias] == (before[alias] if same else min(before[alias], capped.get(alias, BUCKETS)))


@given(some_routes, some_keys, st.frozensets(st.sampled_from([CANARY, CHALLENGER])))
def test_the_gate_takes_all_keys_of_what_it_holds_and_gives_the_same_ones_back(
    table: ModelRoutes, key: str | bytes | None, gated: frozenset[Alias]
) -> None:
    free = replace(table, gated=frozenset())
    before, meanwhile, after = (assign(one, key) for one in (free, replace(table, gated=gated), free))

    assert before == after
    if before is not None and meanwhile is not None and meanwhile != before:
        assert (meanwhile.alias, meanwhile.reason) == (PRODUCTION, Reason.GATED)
        assert before.alias in gated or before.alias == PRODUCTION
    if meanwhile is not None and meanwhile.alias in gated:
        assert meanwhile.version == table.bound[PRODUCTION]


@given(some_keys, st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_a_lower_cap_takes_further_keys_and_gives_none_to_the_canary(
    key: str | bytes | None, one: int, other: int
) -> None:
    low, high = sorted((one, other))
    at_low, at_high = (assign(routes(EVERYONE, capped={CANARY: c, CHALLENGER: c}), key) for c in (low, high))

    assert at_low is not None
    assert at_low.alias == PRODUCTION or at_low == at_high


def test_a_table_is_replaced_and_can_not_be_edited() -> None:
    """Invariant 1: not through an attribute, a mapping, or the dicts it was made from."""
    bound, capped = dict(BOTH), {CANARY: 500}
    model = routes(bound, capped=capped)
    models = {"sentiment": model}
    table = RoutingTable(models)

    bound[CANARY] = V9
    capped[CANARY] = 1_000
    models["churn"] = model

    assert model.bound == BOTH
    assert model.capped == {CANARY: 500}
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
        "split",
    ]
    with pytest.raises(AttributeError):
        Assignment(CANARY, V8, Reason.HASH, 1).lease = V7  # type: ignore[attr-defined] # no place for one


def test_an_assignment_carries_the_split_that_routed_it_whatever_is_in_force_and_comes_after() -> None:
    """What a request counts for is settled before it is answered, by this split and by no cap or breaker."""
    table = replace(routes(BOTH), broken=frozenset({CANARY}), capped={CANARY: 1})
    key = next(
        str(n) for n in range(10_000) if 1 <= bucket_of(table.salt, str(n)) < table.configured_split.canary
    )
    first = assign(table, key)
    assert first is not None
    assert first.reason is Reason.CAPPED
    assert first.split == table.configured_split

    keyless = assign(table, None)
    assert keyless is not None
    assert keyless.split is None
