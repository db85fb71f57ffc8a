"""Since when an alias serves its version."""

from collections.abc import Iterator
from itertools import count

import pytest

from router.control.history import BoundTimes
from router.core.events import AliasBound, AliasUnbound, ModelRemoved
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId

V1, V2 = VersionId("sentiment", 1), VersionId("sentiment", 2)


@pytest.fixture
def since() -> BoundTimes:
    ticks: Iterator[int] = count(1)
    return BoundTimes(lambda: float(next(ticks)))


def bound(alias: Alias, new: VersionId, old: VersionId | None = None) -> AliasBound:
    return AliasBound(new.model, alias, old, new, "run", "flavor", None)


def test_each_alias_has_the_moment_in_which_it_began_to_serve_its_version(since: BoundTimes) -> None:
    since.record(bound(PRODUCTION, V1))
    since.record(bound(CANARY, V2))

    assert (since.of("sentiment", PRODUCTION), since.of("sentiment", CANARY)) == (1.0, 2.0)
    assert since.of("fraud", CANARY) is None


def test_a_version_that_is_reported_again_keeps_its_moment_and_another_one_does_not(
    since: BoundTimes,
) -> None:
    since.record(bound(CANARY, V1))
    since.record(bound(CANARY, V1, V1))
    assert since.of("sentiment", CANARY) == 1.0

    since.record(bound(CANARY, V2, V1))
    assert since.of("sentiment", CANARY) == 2.0


def test_what_serves_nothing_any_more_has_no_moment(since: BoundTimes) -> None:
    since.record(bound(PRODUCTION, V1))
    since.record(bound(CANARY, V2))
    since.record(AliasUnbound("sentiment", CANARY, V2))
    assert since.of("sentiment", CANARY) is None

    since.record(ModelRemoved("sentiment"))
    assert since.of("sentiment", PRODUCTION) is None
