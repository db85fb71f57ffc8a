"""What a rollback goes back to, what stays loaded for it, and how soon it would serve."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import VersionId
from router.core.rollback import (
    LoadedWorkers,
    Productions,
    Readiness,
    Rollback,
    kept_version,
    readiness,
    rollback_version,
)

V1, V2, V3 = VERSIONS = tuple(VersionId("fraud", number) for number in (1, 2, 3))
NOT_READY, SLOWER, AT_ONCE = Readiness
versions = st.sampled_from(VERSIONS)
maybe = st.none() | versions


def served(*moves: VersionId) -> Productions:
    productions = Productions()
    for version in moves:
        productions = productions.moved(version)
    return productions


@pytest.mark.parametrize(
    ("moves", "former"),
    [
        ((), None),
        ((V1,), None),
        ((V1, V2), V1),
        ((V1, V2, V3), V2),
        ((V1, V2, V1), None),
        ((V1, V2, V3, V2), V1),
        ((V1, V2, V3, V1), None),
        ((V1, V2, V1, V3), V1),
        ((V1, V2, V1, V2), V1),
    ],
)
def test_a_version_that_production_went_back_from_is_none_to_go_back_to(
    moves: tuple[VersionId, ...], former: VersionId | None
) -> None:
    """Two rollbacks in a row never end on the version that the first one left."""
    assert served(*moves).former == former


@given(st.lists(versions, min_size=1, max_size=30))
def test_the_former_production_is_another_one_that_was_production(moves: list[VersionId]) -> None:
    productions = served(*moves)
    assert productions.versions[-1] == moves[-1]
    assert productions.former is None or productions.former in set(moves) - {moves[-1]}
    assert len(set(productions.versions)) == len(productions.versions)


def test_the_alias_comes_before_the_former_production_and_may_say_that_there_is_nothing_to_do() -> None:
    assert rollback_version(V3, None, V2) == V2
    assert rollback_version(V3, V1, V2) == V1
    assert rollback_version(V3, V3, V2) is None
    assert rollback_version(V3, None, None) is None
    assert rollback_version(None, V1, None) is None


@given(maybe, maybe, maybe, st.sets(versions), st.sets(versions))
def test_one_version_is_kept_at_most_and_only_one_that_is_loaded_and_that_nobody_wants(
    production: VersionId | None,
    named: VersionId | None,
    former: VersionId | None,
    loaded: set[VersionId],
    wanted: set[VersionId],
) -> None:
    kept = kept_version(production, named, former, loaded=loaded, wanted=wanted)
    if kept is not None:
        assert kept in {named, former} & loaded - wanted - {production}
    choice = rollback_version(production, named, former)
    if choice in loaded - wanted:
        assert kept == choice, "a rollback goes to another one than what is kept for it"


def test_an_alias_that_names_a_version_without_workers_leaves_the_former_production_kept() -> None:
    assert kept_version(V3, V1, V2, loaded={V2, V3}, wanted={V3}) == V2
    assert kept_version(V3, V1, V2, loaded={V1, V2, V3}, wanted={V3}) == V1
    assert kept_version(V3, V1, V2, loaded={V1, V2, V3}, wanted={V1, V3}) is None, "V1 serves a canary"


@pytest.mark.parametrize(
    ("loaded", "has_copy", "error", "expected"),
    [
        (LoadedWorkers(2, 2), True, "", (AT_ONCE, "")),
        (LoadedWorkers(3, 2), None, "", (AT_ONCE, "")),
        (LoadedWorkers(1, 2), True, "", (SLOWER, "1 of 2 workers are loaded")),
        (LoadedWorkers(2, 2, True), True, "", (SLOWER, "its workers were loaded with other settings")),
        (None, True, "", (SLOWER, "it has to be loaded from the cache")),
        (None, False, "", (NOT_READY, "its files are not in the cache")),
        (None, None, "", (NOT_READY, "whether its files are in the cache is not known yet")),
        (None, True, "load: KeyError", (NOT_READY, "it does not load: load: KeyError")),
    ],
)
def test_how_soon_a_version_would_serve_is_said_with_the_reason(
    loaded: LoadedWorkers | None, has_copy: bool | None, error: str, expected: tuple[Readiness, str]
) -> None:
    assert readiness(loaded, has_copy=has_copy, error=error, lost_because="") == expected


def test_files_without_the_environment_that_they_run_in_take_a_build() -> None:
    missing = {"has_environment": False, "error": "", "lost_because": ""}
    reason = "its Python environment has to be built"
    assert readiness(None, has_copy=True, **missing) == (NOT_READY, reason)
    assert readiness(None, has_copy=False, **missing) == (NOT_READY, "its files are not in the cache")
    assert readiness(LoadedWorkers(2, 2), has_copy=True, **missing) == (AT_ONCE, "")


def test_why_kept_workers_are_gone_is_part_of_the_reason() -> None:
    for loaded, has_copy in ((LoadedWorkers(1, 2), True), (None, True), (None, False)):
        reason = readiness(loaded, has_copy=has_copy, error="", lost_because="memory was needed")[1]
        assert reason.endswith(": memory was needed")


@pytest.mark.parametrize(("before", "now"), list(product(Readiness, Readiness)))
def test_a_loss_is_reported_unless_the_time_to_keep_the_version_is_over(
    before: Readiness, now: Readiness
) -> None:
    kept, later = Rollback(V1, before, until=9.0), Rollback(V1, now, "why")
    assert later.is_lost_since(kept, expired=False) == (now < before)
    assert later.is_lost_since(kept, expired=True) == (now < before and now is NOT_READY)
    assert not Rollback(V2, now).is_lost_since(kept, expired=False), "another version is no loss of this one"
    assert not Rollback().is_lost_since(kept, expired=False)


def test_a_worker_that_a_canary_lost_is_no_loss_of_the_rollback() -> None:
    """It is replaced by itself."""
    assert not Rollback(V1, SLOWER).is_lost_since(Rollback(V1, AT_ONCE), expired=False)
    assert Rollback(V1, NOT_READY).is_lost_since(Rollback(V1, AT_ONCE), expired=False)


def test_what_the_state_shows_names_no_place() -> None:
    shown = Rollback(V1, NOT_READY, "OSError: /srv/models/fraud/7/model.pkl", until=None).to_json()
    assert (shown["version"], shown["ready"], shown["until"]) == (1, 0, None)
    assert "/srv/models" not in shown["reason"]
    assert Rollback().to_json() == {"version": None, "ready": 0, "reason": "", "until": None}
