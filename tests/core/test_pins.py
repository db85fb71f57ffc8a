"""Pins: a key given to an alias goes there, wherever its bucket lies; and nothing shows which keys."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.journal import routes_from_json, routes_to_json
from router.core.pins import MOST_PINS, PinLists, PinnedTwice, PinPlace, Pins
from router.core.routing import Assignment, ModelRoutes, Reason, assign, assign_fallback
from router.core.split import Hashed, Split, hashed
from tests.core.routes import (
    BOTH,
    CHALLENGER,
    EVERYONE,
    LOW,
    MIDDLE,
    TOP,
    V7,
    V8,
    V9,
    routes,
    some_keys,
    some_routes,
)

SALT = "sentiment"


def digest(key: str) -> str:
    return f"sha256:{hashed(SALT, key)[1].hex()}"


def pins(canary: tuple[str, ...] = (), production: tuple[str, ...] = (), **others: tuple[str, ...]) -> Pins:
    named = {Alias(alias): keys for alias, keys in others.items()}
    return PinLists({CANARY: canary, PRODUCTION: production, **named}).compiled(SALT)


def pinned(table: ModelRoutes, **keys: tuple[str, ...]) -> ModelRoutes:
    return replace(table, pins=pins(**keys))


PINNED = [
    ("a tester", pinned(routes(EVERYONE), canary=(MIDDLE,)), MIDDLE, (CANARY, V8, Reason.PINNED, 62121)),
    (
        "by its digest",
        pinned(routes(BOTH), canary=(digest(MIDDLE),)),
        MIDDLE,
        (CANARY, V8, Reason.PINNED, 62121),
    ),
    ("a tenant", pinned(routes(EVERYONE), production=(LOW,)), LOW, (PRODUCTION, V7, Reason.PINNED, 418)),
    (
        "a further alias",
        pinned(routes(EVERYONE), challenger=(LOW,)),
        LOW,
        (CHALLENGER, V9, Reason.PINNED, 418),
    ),
    (
        "whose bucket it is anyway",
        pinned(routes(EVERYONE), canary=(LOW,)),
        LOW,
        (CANARY, V8, Reason.PINNED, 418),
    ),
    (
        "a canary without a share",
        pinned(routes(BOTH, split=Split()), canary=(MIDDLE,)),
        MIDDLE,
        (CANARY, V8, Reason.PINNED, 62121),
    ),
    ("somebody else", pinned(routes(EVERYONE), canary=(MIDDLE,)), TOP, (CHALLENGER, V9, Reason.HASH, 90928)),
    (
        "the canary is absent",
        pinned(routes({PRODUCTION: V7}, aspired=frozenset({PRODUCTION})), canary=(MIDDLE,)),
        MIDDLE,
        (PRODUCTION, V7, Reason.CANARY_ABSENT, 62121),
    ),
    (
        "the canary is not ready",
        pinned(routes({PRODUCTION: V7}), canary=(MIDDLE,)),
        MIDDLE,
        (PRODUCTION, V7, Reason.CANARY_NOT_READY, 62121),
    ),
    (
        "the canary is broken",
        pinned(routes(BOTH, broken=frozenset({CANARY})), canary=(MIDDLE,)),
        MIDDLE,
        (PRODUCTION, V7, Reason.BREAKER_OPEN, 62121),
    ),
    (
        "the canary is capped",
        pinned(routes(BOTH, capped={CANARY: 0}), canary=(MIDDLE,)),
        MIDDLE,
        (PRODUCTION, V7, Reason.CAPPED, 62121),
    ),
    (
        "a cap leaves what lies below it",
        pinned(routes(BOTH, capped={CANARY: 1_000}), canary=(LOW,)),
        LOW,
        (CANARY, V8, Reason.PINNED, 418),
    ),
    (
        "both serve one version",
        pinned(routes({PRODUCTION: V7, CANARY: V7}), canary=(MIDDLE,)),
        MIDDLE,
        (CANARY, V7, Reason.SAME_VERSION, 62121),
    ),
]


@pytest.mark.parametrize(("table", "key", "expected"), [p[1:] for p in PINNED], ids=[p[0] for p in PINNED])
def test_a_pinned_key_goes_to_its_alias_unless_that_can_not_answer(
    table: ModelRoutes, key: str, expected: tuple[Alias, object, Reason, int]
) -> None:
    assert assign(table, key) == Assignment(*expected)  # type: ignore[arg-type] # a row of the table


@given(some_routes, some_keys, st.booleans())
def test_pins_change_nothing_for_other_keys(table: ModelRoutes, key: str | bytes | None, keyed: bool) -> None:
    others = pins(canary=("\x00qa",), production=("\x00tenant",))

    assert assign(replace(table, pins=others), key, keyed=keyed) == assign(table, key, keyed=keyed)


some_text_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda key: not key.startswith("sha256:")
)


@given(some_routes, some_text_keys, st.sampled_from([CANARY, CHALLENGER]))
def test_a_pinned_key_meets_production_or_its_alias_and_never_a_third(
    table: ModelRoutes, key: str, alias: Alias
) -> None:
    got = assign(pinned(table, **{str(alias): (key,)}), key)

    assert got is None or got.alias in (PRODUCTION, alias)


def test_a_key_that_was_made_from_the_body_is_never_pinned() -> None:
    """Else who knows a pinned key could send it as a body and be taken for that caller."""
    table = pinned(routes(BOTH), canary=(MIDDLE,))
    long = Hashed(MIDDLE.encode(), SALT, 62121)

    assert [assign(table, key, keyed=False) for key in (MIDDLE.encode(), long)] == [
        Assignment(PRODUCTION, V7, Reason.NO_KEY, 62121)
    ] * 2


def test_the_split_decides_of_no_pinned_key() -> None:
    table = pinned(routes(BOTH), canary=(MIDDLE,), production=(LOW,))
    by_split = [
        (key, assign(table, key, keyed=keyed)) for key in (MIDDLE, LOW, TOP) for keyed in (True, False)
    ]

    assert [got.by_split for _, got in by_split if got] == [False, False, False, False, True, False]


def test_what_a_pinned_canary_fails_is_answered_by_production() -> None:
    table = pinned(routes(BOTH), canary=(MIDDLE,))
    first = assign(table, MIDDLE)

    assert first is not None
    assert assign_fallback(table, first) == Assignment(PRODUCTION, V7, Reason.FALLBACK, 62121)


def test_a_set_has_one_digest_however_it_is_written_and_another_one_under_another_salt() -> None:
    plain = pins(canary=("qa-1", "qa-2"), production=("tenant-7",))
    hashed_in_another_order = pins(production=(digest("tenant-7"),), canary=("qa-2", digest("qa-1"), "qa-2"))
    other_side = pins(production=("qa-1", "qa-2"), canary=("tenant-7",))
    lists = PinLists({CANARY: ("qa-1",)})

    assert plain == hashed_in_another_order != other_side
    assert (plain.count, plain.counts) == (3, {CANARY: 2, PRODUCTION: 1})
    assert lists.compiled("a").digest != lists.compiled("b").digest


@pytest.mark.parametrize("again", ["qa-2", digest("qa-2")], ids=["plain", "as a digest"])
def test_a_key_in_two_lists_is_refused_by_its_places(again: str) -> None:
    lists = PinLists({CANARY: ("qa-1", "qa-2"), PRODUCTION: ("tenant-7", "t", again)})

    with pytest.raises(PinnedTwice) as refused:
        lists.compiled(SALT)

    assert refused.value.places == [(PinPlace(CANARY, 1), PinPlace(PRODUCTION, 2))]
    assert "qa" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "must not be empty"),
        ("sha256:12", "64 hexadecimal digits"),
        ("sha256:" + "g" * 64, "64 hexadecimal"),
    ],
)
def test_a_key_that_can_not_be_pinned_is_refused_and_not_shown(key: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        PinLists({CANARY: (key,)})

    assert not key or key not in str(refused.value)


def test_ten_thousand_keys_may_be_pinned_and_not_one_more() -> None:
    most = tuple(map(str, range(MOST_PINS - 1)))

    assert PinLists({CANARY: most, PRODUCTION: ("one",)}).compiled(SALT).count == MOST_PINS
    with pytest.raises(ValueError, match="must pin 10000 keys in all at most, not 10001"):
        PinLists({CANARY: most, PRODUCTION: ("one", "two")})


def test_nothing_shows_a_pinned_key() -> None:
    lists = PinLists({CANARY: ("qa-1",), PRODUCTION: ("tenant-7",)})
    table = replace(routes(BOTH), pins=lists.compiled(SALT))

    shown = f"{lists!r} {lists!s} {table!r} {routes_to_json(table)}"

    assert not any(key in shown for key in ("qa-1", "tenant-7", digest("qa-1")[10:], digest("tenant-7")[10:]))


def test_a_journal_knows_how_many_keys_were_pinned_and_of_which_set() -> None:
    table = pinned(routes(BOTH), canary=(MIDDLE,))
    read = routes_from_json("sentiment", routes_to_json(table))

    assert routes_to_json(table)["pins"] == {"count": 1, "digest": table.pins.digest}
    assert read == table
    assert (read.pins.aliases, assign(read, MIDDLE)) == ({}, Assignment(PRODUCTION, V7, Reason.HASH, 62121))
