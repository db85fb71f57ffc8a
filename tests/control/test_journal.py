"""Lines of the journal: each cause with the routes that hold from then on, and no key or credential."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from router.control import journal as journals
from router.control.fan_out import FanOut
from router.control.journal import (
    FOLDED_ABOVE,
    WINDOW_SECONDS,
    ChainEnd,
    Journal,
    cause_of,
)
from router.core.events import (
    AliasAspired,
    BreakerClosed,
    ConfigApplied,
    Event,
    PinsChanged,
    Polled,
    RoutesChanged,
    VerdictChanged,
)
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.journal import BEGINNING, MOST_TABLES, Entry, decode, digest_of
from router.core.lever_events import CapLifted, CapSet
from router.core.pins import PinLists
from router.core.routing import ModelRoutes, RoutingTable
from router.core.split import Split
from tests.support.sample_events import bound, goodbye, one_of_each

V7, V8 = VersionId("m", 7), VersionId("m", 8)
ROUTES = ModelRoutes("m", "m", Split(5_000), {PRODUCTION: V7, CANARY: V8}, frozenset({PRODUCTION, CANARY}))
OTHER = ModelRoutes("n", "n", Split(1_000), {PRODUCTION: VersionId("n", 1)}, frozenset({PRODUCTION}))


class Kept:
    """Implements `LineStore`."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.begins: list[int] = []
        """Places of lines that begin a file."""
        self.synced: list[int] = []

    def append(self, line: bytes, *, at: float, begins_file: bool, sync: bool) -> None:
        assert decode(line)[0].at == at
        if begins_file:
            self.begins.append(len(self.lines))
        if sync:
            self.synced.append(len(self.lines))
        self.lines.append(line)


class Situation:
    """A journal, the routes it shows, and its clocks, which stand still."""

    def __init__(self, *routes: ModelRoutes) -> None:
        self.table = RoutingTable({one.model: one for one in routes})
        self.kept = Kept()
        self.shown: list[bytes] = []
        self.wall, self.mono = 1_000_000.0, 500.0
        self.journal = Journal(
            "gw-1:4711", self.shown.append, wall=lambda: self.wall, monotonic=lambda: self.mono
        )
        self.recorder = FanOut(deduplicated=(self.journal,))

    def start(self) -> "Situation":
        self.journal.resume(self.kept, ChainEnd(BEGINNING, 0, None), cause="start", details={})
        self.journal.start(self, {"version": "0.1.0"})
        return self

    def publish(self, *routes: ModelRoutes) -> None:
        self.table = RoutingTable({**self.table.models, **{one.model: one for one in routes}})
        for one in routes:
            self.recorder.record(RoutesChanged(one))

    async def turn(self, *events: Event) -> None:
        """Records them and lets the turn of the loop end."""
        for event in events:
            self.recorder.record(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds

    @property
    def entries(self) -> list[Entry]:
        """All lines, whose chain is whole."""
        found, before = [], BEGINNING
        for line in self.shown:
            entry, prev = decode(line)
            assert prev == before
            before = digest_of(line)
            found.append(entry)
        assert self.journal.head == before
        assert self.journal.lines == len(found)
        return found


@pytest.fixture
def one() -> Situation:
    return Situation(ROUTES, OTHER).start()


async def test_it_begins_with_all_routes_and_the_log_has_every_line(one: Situation) -> None:
    (entry,) = one.entries

    assert (entry.cause, entry.gateway, entry.at) == ("start", "gw-1:4711", 1_000_000.0)
    assert entry.table == {"m": ROUTES, "n": OTHER}
    assert entry.details == {"version": "0.1.0"}
    assert one.kept.lines == one.shown
    assert one.kept.begins == [0]


async def test_a_cause_has_the_routes_as_they_are_when_its_turn_ends(one: Situation) -> None:
    """A manager publishes before it says why, and perhaps twice."""
    final = replace(ROUTES, bound={PRODUCTION: V8, CANARY: V8})
    one.publish(replace(ROUTES, bound={PRODUCTION: V7}))
    one.publish(final)
    await one.turn(BreakerClosed("m", CANARY, V8, "production serves m v8"), bound(PRODUCTION, 8, old=7))

    closed, moved = one.entries[1:]
    assert (closed.cause, closed.table) == ("breaker_closed", {})
    assert (moved.cause, moved.table) == ("bound", {"m": final})
    assert moved.details == {"model": "m", "alias": "production", "from": 7, "to": 8, "run_id": "run8"}


async def test_a_configuration_has_the_routes_of_all_that_it_changed(one: Situation) -> None:
    changed = [replace(ROUTES, configured_split=Split(9_000)), replace(OTHER, salt="2026")]
    one.publish(*changed)
    await one.turn(ConfigApplied("3f9c", ("models.m.split", "models.n.salt")))

    (entry,) = one.entries[1:]
    assert entry.table == {routes.model: routes for routes in changed}
    assert entry.details == {"digest": "3f9c", "changes": ["models.m.split", "models.n.salt"]}


async def test_a_model_that_leaves_the_configuration_is_gone_when_it_is_in_force(one: Situation) -> None:
    """Its last requests may still run, and `ModelRemoved` comes after them."""
    one.table = RoutingTable({"m": ROUTES})
    await one.turn(ConfigApplied("3f9c", ("models.n",)))
    await one.turn(*goodbye("n"))

    (entry,) = one.entries[1:]
    assert (entry.cause, entry.gone, entry.table) == ("configuration", ("n",), {})


async def test_what_changed_for_no_reason_that_is_known_is_written_too(one: Situation) -> None:
    again = replace(ROUTES, bound={PRODUCTION: V7})
    one.publish(again)
    await one.turn()

    (entry,) = one.entries[1:]
    assert (entry.cause, entry.table) == ("changed", {"m": again})


async def test_what_changed_nothing_and_says_nothing_leaves_no_line(one: Situation) -> None:
    one.publish(ROUTES)
    await one.turn(bound(CANARY, 8, old=8), Polled("m", 0.1, ""))

    assert len(one.entries) == 1


async def test_a_cap_is_written_through_to_the_disk(one: Situation) -> None:
    one.publish(replace(ROUTES, capped={CANARY: 0}))
    await one.turn(CapSet("m", CANARY, V8, 0.0, "ann", "too many faults"))
    await one.turn(CapLifted("m", CANARY, None, "ann", "fixed"))

    capped, lifted = one.entries[1:]
    assert capped.table["m"].capped == {CANARY: 0}
    assert capped.details == {
        "model": "m",
        "alias": "canary",
        "version": 8,
        "share": 0.0,
        "by": "ann",
        "why": "too many faults",
    }
    assert lifted.details["version"] is None
    assert one.kept.synced == [1, 2]


async def test_a_stop_is_the_last_line(one: Situation) -> None:
    one.recorder.record(VerdictChanged("m", CANARY, V8, V7, "pass", "fail", "more faults"))
    one.journal.stop()
    await one.turn(*one_of_each())

    assert [entry.cause for entry in one.entries] == ["start", "verdict", "stop"]


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
async def test_no_event_is_too_much_for_it(one: Situation, event: Event) -> None:
    one.recorder.record(event)
    await one.turn()

    assert one.entries[0].cause == "start"


# ---- what can not be kept


async def test_lines_that_are_not_kept_are_shown_and_followed_by_all_routes(one: Situation) -> None:
    one.journal.suspend(999_999.0)
    one.passes(5.0)
    one.publish(replace(ROUTES, salt="2026"))
    await one.turn()
    one.passes(5.0)
    (first,) = one.kept.lines
    end = ChainEnd(digest_of(first), len(first) + 1, 1_000_000.0)

    one.journal.resume(one.kept, end, cause="catch_up", details={})

    line = one.kept.lines[1]
    entry, prev = decode(line)
    assert prev == digest_of(first), "the chain on disk goes on"
    assert (entry.cause, entry.table) == ("catch_up", dict(one.table.models))
    assert entry.details == {"since": 999_999.0}
    assert [json.loads(line)["cause"] for line in one.shown] == ["start", "changed", "catch_up"]


async def test_a_gateway_that_waits_for_the_lock_says_from_when_its_lines_are_in_no_file() -> None:
    waiting = Situation(ROUTES)
    waiting.journal.start(waiting, {})
    waiting.passes(7.0)

    waiting.journal.resume(
        waiting.kept, ChainEnd("a" * 64, 300, 10.0), cause="lock_taken", details={"from": "gw-0:1"}
    )

    (line,) = waiting.kept.lines
    entry, prev = decode(line)
    assert prev == "a" * 64
    assert entry.details == {"from": "gw-0:1", "since": 1_000_000.0}
    assert waiting.journal.began == 10.0
    assert waiting.kept.begins == []


async def test_a_file_that_is_full_is_followed_by_one_that_begins_with_all_routes(
    one: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MOST_BYTES", 2_000)
    for number in range(20):
        one.passes(WINDOW_SECONDS)
        one.publish(replace(ROUTES, salt=str(number)))
        await one.turn()

    assert len(one.kept.begins) > 3
    ends = [*one.kept.begins[1:], len(one.kept.lines)]
    for begin, end in zip(one.kept.begins, ends, strict=True):
        assert decode(one.kept.lines[begin])[0].table.keys() == {"m", "n"}
        assert sum(len(line) + 1 for line in one.kept.lines[begin:end]) <= 2_000


# ---- the clock


@pytest.mark.parametrize("step", [3600.0, -3600.0, 0.6])
async def test_a_step_of_the_clock_is_a_line(one: Situation, step: float) -> None:
    one.passes(10.0)
    before = one.wall
    one.wall += step
    await one.journal.tick()
    await one.journal.tick()

    (entry,) = one.entries[1:]
    assert (entry.cause, entry.at) == ("clock", before + step)
    assert entry.details["from"] == pytest.approx(before)
    assert entry.details["seconds"] == pytest.approx(step)


async def test_a_clock_that_is_slewed_is_no_step(one: Situation) -> None:
    for _ in range(100):
        one.passes(1.0)
        one.wall += 0.1
        await one.journal.tick()

    assert len(one.entries) == 1


# ---- flapping


async def flap(one: Situation, times: int, seconds: float = 0.01) -> None:
    for number in range(times):
        one.passes(seconds)
        one.publish(replace(ROUTES, salt=f"{number % 3}"))
        await one.turn(AliasAspired("m", CANARY, V7, V8))


async def test_what_flaps_becomes_one_line_with_a_count(one: Situation) -> None:
    await flap(one, FOLDED_ABOVE + 1 + 500)
    first = one.entries[-1]
    assert first.cause == "folded"
    assert first.details["open"] is True, "who reads now has to know that more may have happened since"
    assert len(one.entries) == 1 + FOLDED_ABOVE + 1

    one.passes(WINDOW_SECONDS)
    await one.journal.tick()

    last = one.entries[-1]
    assert len(one.entries) == 1 + FOLDED_ABOVE + 2
    assert last.cause == "folded"
    assert last.table == {"m": one.table.models["m"]}, "the last one holds"
    details = last.details
    assert (details["of"], details["model"], details["count"]) == ("alias_moved", "m", 500)
    assert first.at <= details["since"] < last.at
    assert [table["salt"] for table in details["tables"]["m"]] == ["1", "2", "0"]
    assert details["last"]["to"] == 8


async def test_what_goes_on_flapping_is_one_line_a_minute(one: Situation) -> None:
    for _ in range(5):
        await flap(one, 400, seconds=WINDOW_SECONDS / 400)
        await one.journal.tick()
    lines = [entry for entry in one.entries if entry.cause == "folded"]
    assert len(one.entries) <= 1 + FOLDED_ABOVE + 7
    assert sum(entry.details["count"] for entry in lines) >= 5 * 400 - FOLDED_ABOVE - 400

    one.passes(2 * WINDOW_SECONDS)
    await one.journal.tick()
    one.passes(2 * WINDOW_SECONDS)
    await one.journal.tick()

    assert one.entries[-1].details["open"] is False
    assert one.journal._folds == {}
    await flap(one, 1)
    assert one.entries[-1].cause == "alias_moved"


async def test_one_that_flaps_folds_no_other(one: Situation) -> None:
    await flap(one, FOLDED_ABOVE + 10)
    one.publish(replace(ROUTES, capped={CANARY: 0}))
    await one.turn(CapSet("m", CANARY, V8, 0.0, "ann", "flaps"))

    assert one.entries[-1].cause == "capped"
    assert one.entries[-1].table["m"].capped == {CANARY: 0}


async def test_a_stop_writes_what_was_folded(one: Situation) -> None:
    await flap(one, FOLDED_ABOVE + 10)

    one.journal.stop()

    folded, stop = one.entries[-2:]
    assert (folded.cause, folded.details["count"], stop.cause) == ("folded", 9, "stop")


async def test_a_folded_line_is_bounded(one: Situation) -> None:
    for number in range(FOLDED_ABOVE + 1 + 10 * MOST_TABLES):
        one.publish(replace(ROUTES, salt=str(number)))
        await one.turn(AliasAspired("m", CANARY, V7, V8))
    one.passes(WINDOW_SECONDS)
    await one.journal.tick()

    assert len(one.entries[-1].details["tables"]["m"]) == MOST_TABLES


# ---- what is in a line


def details_of(event: Event) -> dict[str, Any]:
    cause = cause_of(event, 0.0)
    assert cause is not None
    return dict(cause.details)


SECRET = "s3cr3t-token-value"
TEXTS = [
    f"token={SECRET}",
    f"see https://ann:{SECRET}@example.com/",
    f"Authorization: Bearer {SECRET}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_credential_is_in_a_line(text: str) -> None:
    shown = details_of(CapSet("m", CANARY, V8, 0.0, text, text))

    assert SECRET not in json.dumps(shown)


async def test_changed_pins_are_a_line_of_number_and_digest(one: Situation) -> None:
    pins = PinLists({CANARY: ("qa-1", "qa-2")}).compiled("m")
    one.publish(replace(ROUTES, pins=pins))
    await one.turn(PinsChanged("m", pins.count, pins.digest))
    entry = one.entries[-1]

    assert (entry.cause, entry.details) == ("pins", {"model": "m", "count": 2, "digest": pins.digest})
    assert entry.table["m"].pins == pins
    assert not any(b"qa-" in line for line in one.shown)
