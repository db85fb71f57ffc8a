"""An hour of traffic: which buckets were seen, and what of the requests a share would move."""

import sys
from typing import Any

import pytest

from router.analysis.hourly_traffic import SLICE_SECONDS, SLICES, BucketSet, HourlyTraffic
from router.core.events import Answered, ModelRemoved, RoutesChanged
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.outcomes import FaultKind, Outcome
from router.core.routing import ModelRoutes, Reason
from router.core.split import Split

V1 = VersionId("m", 1)


class Hour:
    def __init__(self) -> None:
        self.now = 5_000.0
        self.traffic = HourlyTraffic(lambda: self.now)

    def answer(self, bucket: int | None, alias: Alias = PRODUCTION, **keys: Any) -> None:
        given = {"model": "m", "bucket": bucket, **keys}
        self.traffic.record(
            Answered(alias=alias, version=V1, outcome=Outcome.OK, code=200, seconds=0.1, rows=1, **given)
        )


@pytest.fixture
def hour() -> Hour:
    return Hour()


def test_each_bucket_counts_once_and_each_request_every_time(hour: Hour) -> None:
    for bucket in (0, 7, 8, 7, 99_999):
        hour.answer(bucket)
    seen = hour.traffic.of("m").seen

    assert hour.traffic.of("m").keyed == 5
    assert [seen.count(*span) for span in ((), (0, 8), (8, 9), (9, 99_999), (99_999, 100_000), (5, 5))] == [
        4, 2, 1, 0, 1, 0,
    ]  # fmt: skip


def test_what_no_share_moves_is_counted_apart_and_sees_no_bucket(hour: Hour) -> None:
    hour.answer(1)
    hour.answer(2, reason=Reason.NO_KEY, by_split=False)
    hour.answer(3, reason=Reason.CANARY_ABSENT, by_split=False)
    hour.answer(4, CANARY, reason=Reason.PINNED, by_split=False)
    hour.answer(None, CANARY, reason=Reason.DIRECT, by_split=False)
    hour.answer(None, reason=Reason.NO_KEY, by_split=False)
    found = hour.traffic.of("m")

    assert (found.seen, found.keyed, found.hashed_bodies) == (BucketSet(2), 1, 2)
    assert found.fixed == {CANARY: 2, PRODUCTION: 1}
    assert (found.keyless, found.requests) == (3, 6)


def test_faults_of_production_count_on_keys_that_the_split_gave_it(hour: Hour) -> None:
    for alias, fault in ((PRODUCTION, FaultKind.ERROR), (PRODUCTION, ""), (CANARY, FaultKind.ERROR)):
        hour.answer(5, alias, fault=fault)
    hour.answer(5, fault=FaultKind.ERROR, reason=Reason.PINNED, by_split=False)
    found = hour.traffic.of("m")

    assert (found.production_requests, found.production_faults) == (2, 1)


def test_what_came_over_an_hour_ago_is_forgotten(hour: Hour) -> None:
    for slice_ in range(SLICES + 2):
        hour.answer(slice_)
        hour.now += SLICE_SECONDS
    found = hour.traffic.of("m")

    assert found.keyed == SLICES - 1, "the clock stands at the end of the last slice"
    assert found.seen.count(0, 3) == 0
    assert found.seconds == (SLICES - 1) * SLICE_SECONDS
    hour.now += SLICES * SLICE_SECONDS
    assert hour.traffic.of("m").requests == 0


def test_an_hour_that_has_just_begun_says_how_long_it_is(hour: Hour) -> None:
    assert hour.traffic.of("m").seconds == 0.0
    hour.answer(1)
    hour.now += 40.0

    assert hour.traffic.of("m").seconds == 40.0


def test_models_are_counted_apart_and_go_with_the_model(hour: Hour) -> None:
    hour.answer(1)
    hour.answer(2, model="n")
    hour.traffic.record(ModelRemoved("m"))
    hour.answer(3, model="n")

    assert (hour.traffic.of("m").requests, hour.traffic.of("n").seen.count(2, 4)) == (0, 2)


def test_another_salt_makes_other_buckets_of_the_same_keys(hour: Hour) -> None:
    hour.traffic.record(RoutesChanged(ModelRoutes("m", "a", Split(5_000))))
    hour.answer(1)
    hour.traffic.record(RoutesChanged(ModelRoutes("m", "a", Split(10_000))))
    assert hour.traffic.of("m").keyed == 1

    hour.traffic.record(RoutesChanged(ModelRoutes("m", "b", Split(10_000))))
    assert hour.traffic.of("m").keyed == 0


def test_an_hour_takes_a_bit_a_bucket_and_slice_whatever_comes(hour: Hour) -> None:
    """150 kB in all: 12 × 12.5 kB."""
    for slice_ in range(3 * SLICES):
        for bucket in range(slice_, 100_000, 997):
            hour.answer(bucket)
        hour.now += SLICE_SECONDS
    slices = hour.traffic._slices["m"]

    assert len(slices) == SLICES
    assert sum(sys.getsizeof(one.bits) for one in slices) < 155_000
