"""Who got a key at a moment of the past: what the journal says is what a judge saw who stood beside it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.journal import BEGINNING, Entry, decode, digest_of, encode, routes_to_json
from router.core.journal_chain import Chains
from router.core.past_routes import LEEWAY_SECONDS, Answer, End, Gap, Moment
from router.core.pins import NOTHING_PINNED, PinLists
from router.core.routing import ModelRoutes, Reason, assign
from router.core.split import BUCKETS, Split
from tests.core.journal_lines import chained

MODEL = "sentiment"
GATEWAY = "gw-1:4711"
LATE_SECONDS = 0.4
"""At most so long after a change its line says that it was made."""
QUESTIONS = 100
"""For each of 100 sequences."""

Outcome = tuple[str, int] | None


def served(production: int | None = 7, canary: int | None = 8, share: int = 5_000) -> ModelRoutes:
    bound = {PRODUCTION: production, CANARY: canary}
    versions = {alias: VersionId(MODEL, number) for alias, number in bound.items() if number is not None}
    return ModelRoutes(MODEL, MODEL, Split(share), versions, frozenset(versions))


def outcome_of(routes: ModelRoutes | None, key: str) -> Outcome:
    given = assign(routes, key) if routes is not None else None
    return (given.alias, given.version.number) if given else None


@dataclass
class Gateway:
    """Serves, and writes what it serves; a judge beside it notes what is true at each instant."""

    name: str
    clock: float
    """What it shows; `true_time` is what passes."""
    true_time: float
    routes: ModelRoutes = field(default_factory=served)
    running: bool = False
    starts: int = 0
    head: str = BEGINNING
    lines: list[bytes] = field(default_factory=list)
    seen: list[tuple[float, float, ModelRoutes | None]] = field(default_factory=list)
    """True time, what the clock showed, and the routes from then on; None while it is not running."""

    def passes(self, seconds: float) -> None:
        self.true_time += seconds
        self.clock += seconds

    def note(self) -> None:
        self.seen.append((self.true_time, self.clock, self.routes if self.running else None))

    def write(self, cause: str, at: float, *, table: bool = True, **details: object) -> None:
        table_of = {MODEL: self.routes} if table else {}
        entry = Entry(at, f"{self.name}:{self.starts}", cause, details, table_of)
        line = encode(entry, self.head)
        self.head = digest_of(line)
        self.lines.append(line)

    def change(self, cause: str, routes: ModelRoutes, late: float) -> None:
        if self.running and routes != self.routes:
            self.routes = routes
            self.note()
            self.write(cause, self.clock + late)

    def start(self) -> None:
        if not self.running:
            self.starts += 1
            self.running = True
            self.note()
            self.write("start", self.clock)

    def stop(self, *, killed: bool) -> None:
        if self.running:
            self.running = False
            self.note()
            if not killed:
                self.write("stop", self.clock, table=False)

    def set_clock(self, seconds: float) -> None:
        if self.running:  # else there is nobody who could write that it was set
            before, self.clock = self.clock, self.clock + seconds
            self.note()
            self.write("clock", self.clock, table=False, **{"from": before})

    def at(self, clock: float) -> Iterator[ModelRoutes | None]:
        """What was true when its clock showed this: nothing, once, or again after it was set back."""
        for (begin, shown, routes), following in zip(self.seen, [*self.seen[1:], None], strict=True):
            end = shown + (following[0] - begin) if following is not None else float("inf")
            if shown <= clock < end:
                yield routes


KINDS = ("split", "salt", "canary", "production", "unbind", "open", "close", "cap", "lift", "stop", "kill")
steps = st.tuples(
    st.sampled_from((*KINDS, "start", "start", "set_clock")),
    st.integers(0, BUCKETS),
    st.sampled_from([0.0, 0.3, 1.2, 5.0, 40.0, 700.0]),
    st.sampled_from([0.0, 0.1, LATE_SECONDS]),
)


def step(gateway: Gateway, kind: str, number: int, seconds: float, late: float) -> None:
    routes = gateway.routes
    bound = dict(routes.bound)
    # A line's time is not before that of the line before it, as in a gateway.
    gateway.passes(seconds + LATE_SECONDS)
    match kind:
        case "split":
            gateway.change("configuration", replace(routes, configured_split=Split(number)), late)
        case "salt":
            gateway.change("configuration", replace(routes, salt=f"salt {number % 3}"), late)
        case "canary" | "production":
            alias = CANARY if kind == "canary" else PRODUCTION
            bound[alias] = VersionId(MODEL, 1 + number % 5)
            gateway.write("alias_moved", gateway.clock, table=False, model=MODEL) if gateway.running else None
            gateway.change("bound", replace(routes, bound=bound), late)
        case "unbind":
            bound.pop(CANARY, None)
            gateway.change("unbound", replace(routes, bound=bound, broken=frozenset()), late)
        case "open":
            gateway.change("breaker_opened", replace(routes, broken=frozenset({CANARY})), late)
        case "close":
            gateway.change("breaker_closed", replace(routes, broken=frozenset()), late)
        case "cap":
            gateway.change("capped", replace(routes, capped={CANARY: number // 4}), late)
        case "lift":
            gateway.change("cap_lifted", replace(routes, capped={}), late)
        case "stop" | "kill":
            gateway.stop(killed=kind == "kill")
        case "start":
            gateway.start()
        case "set_clock":
            gateway.set_clock((number % 40) - 20)


def asked(lines: list[bytes], at: float, key: str, pins: PinLists = NOTHING_PINNED) -> Answer:
    """What the lines of several gateways, as they are mixed in one log, answer."""
    return answer_of(entries_of(lines), at, key, pins)


def entries_of(lines: list[bytes]) -> list[tuple[Entry, int]]:
    """Each with the number of its chain."""
    chains, entries = Chains(), []
    for line in lines:
        entry, prev = decode(line)
        entries.append((entry, chains.place(prev, digest_of(line), entry)[0]))
    return entries


def answer_of(
    entries: list[tuple[Entry, int]], at: float, key: str, pins: PinLists = NOTHING_PINNED
) -> Answer:
    moment = Moment(MODEL, at)
    for entry, chain in entries:
        moment.take(entry, chain)
    return moment.answer(key, pins)


@settings(max_examples=100)
@given(st.lists(st.lists(steps, min_size=5, max_size=25), min_size=1, max_size=3), st.integers(0, 2**32))
def test_ten_thousand_questions_are_answered_as_the_judge_saw_it(
    histories: list[list[tuple[str, int, float, float]]], seed: int
) -> None:
    """Where it is certain there is one truth, and it is that; where it says `either` a change is near."""
    chance = random.Random(seed)
    gateways = [Gateway(f"gw-{number}", 1000.0, 0.0) for number in range(len(histories))]
    for gateway, history in zip(gateways, histories, strict=True):
        gateway.start()
        for one in history:
            step(gateway, *one)
        gateway.passes(3.0)
        gateway.start()  # of one that was killed, and not started again, nobody can know
    entries = entries_of([line for gateway in gateways for line in gateway.lines])
    edges = [shown for gateway in gateways for _, shown, _ in gateway.seen]
    begins, ends = min(edges), max(gateway.clock for gateway in gateways)

    for _ in range(QUESTIONS):
        near = chance.choice(edges) + chance.uniform(-2.5, 2.5)
        at = chance.choice([near, chance.uniform(begins, ends)])
        key = f"user-{chance.randrange(10_000)}"
        answer = answer_of(entries, at, key)
        judge_agrees(answer, gateways, key)


def judge_agrees(answer: Answer, gateways: list[Gateway], key: str) -> None:
    at = answer.at
    truths = {outcome_of(routes, key) for one in gateways for routes in one.at(at) if routes is not None}
    said = {candidate.outcome for candidate in answer.candidates}
    assert truths <= said
    if answer.running and answer.certain:
        assert truths == said
    if not answer.candidates:
        assert not truths
    if len(said) > 1:
        reach = LEEWAY_SECONDS + LATE_SECONDS
        around = {
            outcome_of(routes, key)
            for one in gateways
            for instant in moments_around(one, at, reach)
            for routes in one.at(instant)
            if routes is not None
        }
        # What ran without a line that it ended may have been running on.
        lost = {one.outcome for one in answer.candidates if one.period.end is End.LOST}
        assert said <= around | lost


def moments_around(gateway: Gateway, at: float, reach: float) -> Iterator[float]:
    yield from (at - reach, at, at + reach)
    for _, shown, _ in gateway.seen:
        if abs(shown - at) <= reach:
            yield shown


def line_up(*entries: Entry) -> list[bytes]:
    return chained(entries)


def said(answer: Answer) -> list[Outcome]:
    return sorted({one.outcome for one in answer.candidates}, key=str)


FIRST, SECOND = "gw-1:10", "gw-1:20"
ALL_KEYS = served(share=BUCKETS)
"""Gives each key to the canary."""
NO_KEY = served(share=0)


def test_a_change_makes_the_second_before_and_after_it_uncertain_and_no_more() -> None:
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(200.0, FIRST, "configuration", {}, {MODEL: ALL_KEYS}),
    )

    assert LEEWAY_SECONDS == 1.0
    assert said(asked(lines, 198.9, "a")) == [("production", 7)]
    assert said(asked(lines, 199.1, "a")) == [("canary", 8), ("production", 7)]
    assert said(asked(lines, 200.9, "a")) == [("canary", 8), ("production", 7)]
    assert said(asked(lines, 201.1, "a")) == [("canary", 8)]


def test_between_the_first_and_the_last_replicas_change_it_is_either() -> None:
    one = line_up(
        Entry(1.0, "a:1", "start", {}, {MODEL: NO_KEY}), Entry(50.0, "a:1", "bound", {}, {MODEL: ALL_KEYS})
    )
    other = line_up(
        Entry(1.0, "b:1", "start", {}, {MODEL: NO_KEY}), Entry(90.0, "b:1", "bound", {}, {MODEL: ALL_KEYS})
    )

    assert said(asked(one + other, 70.0, "a")) == [("canary", 8), ("production", 7)]
    assert said(asked(one + other, 45.0, "a")) == [("production", 7)]
    assert said(asked(one + other, 95.0, "a")) == [("canary", 8)]


def test_before_the_first_line_nothing_is_known() -> None:
    answer = asked(line_up(Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY})), 50.0, "a")

    assert not answer.candidates
    assert answer.begins == 100.0


def test_a_journal_whose_older_files_are_gone_begins_with_its_first_line() -> None:
    answer = asked(line_up(Entry(100.0, FIRST, "bound", {}, {MODEL: NO_KEY})), 98.0, "a")

    assert not answer.candidates
    assert answer.begins == 100.0
    assert answer.unknown == ((FIRST, 100.0),)


def test_between_a_stop_and_the_next_start_no_gateway_was_running() -> None:
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(200.0, FIRST, "stop"),
        Entry(300.0, SECOND, "start", {}, {MODEL: NO_KEY}),
    )
    answer = asked(lines, 250.0, "a")

    assert not answer.candidates
    assert answer.stopped is not None
    assert (answer.stopped.until, answer.started) == (200.0, 300.0)
    assert asked(lines, 199.0, "a").running


def test_a_start_without_a_stop_leaves_open_until_when_the_one_before_was_running() -> None:
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(150.0, FIRST, "configuration", {}, {MODEL: ALL_KEYS}),
        Entry(300.0, SECOND, "start", {}, {MODEL: NO_KEY}),
    )

    assert asked(lines, 149.0, "a").running
    assert not asked(lines, 250.0, "a").running
    assert said(asked(lines, 250.0, "a")) == [("canary", 8)]
    assert said(asked(lines, 302.0, "a")) == [("production", 7)]


def test_a_start_by_the_same_name_is_another_process() -> None:
    """In a container each one has the number 1."""
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(300.0, FIRST, "start", {}, {MODEL: NO_KEY}),
    )

    assert not asked(lines, 200.0, "a").running
    assert asked(lines, 302.0, "a").running


def test_a_gateway_that_waited_for_the_lock_is_known_from_then_on_and_before_it_perhaps() -> None:
    """The old one of a rolling update has the lock while both serve."""
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(200.0, FIRST, "stop"),
        Entry(201.0, SECOND, "lock_taken", {"since": 150.0}, {MODEL: NO_KEY}),
    )
    both = asked(lines, 170.0, "a")

    assert asked(lines, 120.0, "a").certain
    assert both.running
    assert both.agreed
    assert not both.certain
    assert {one.period.gap for one in both.candidates} == {None, Gap.NOT_KEPT}
    assert asked(lines, 250.0, "a").certain


def test_one_that_was_killed_with_the_lock_may_have_been_running_until_the_next_one_took_it() -> None:
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(150.0, SECOND, "start", {}, {MODEL: ALL_KEYS}),
        Entry(250.0, SECOND, "lock_taken", {}, {MODEL: ALL_KEYS}),
    )

    assert said(asked(lines, 240.0, "a")) == [("canary", 8), ("production", 7)]
    assert said(asked(lines, 252.0, "a")) == [("canary", 8)]


def test_what_was_not_kept_is_uncertain_between_what_was_before_and_after() -> None:
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(300.0, FIRST, "catch_up", {"since": 200.0}, {MODEL: ALL_KEYS}),
    )

    assert said(asked(lines, 190.0, "a")) == [("production", 7)]
    assert said(asked(lines, 250.0, "a")) == [("canary", 8), ("production", 7)]
    assert said(asked(lines, 302.0, "a")) == [("canary", 8)]


def test_what_was_folded_is_one_of_the_routes_that_the_line_lists() -> None:
    other = served(canary=9, share=BUCKETS)
    listed = {MODEL: [routes_to_json(NO_KEY), routes_to_json(other)]}
    folded = {"of": "bound", "model": MODEL, "count": 75, "since": 200.0, "open": False, "tables": listed}
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(260.0, FIRST, "folded", folded, {MODEL: NO_KEY}),
    )

    assert said(asked(lines, 190.0, "a")) == [("production", 7)]
    assert said(asked(lines, 230.0, "a")) == [("canary", 9), ("production", 7)]
    assert said(asked(lines, 270.0, "a")) == [("production", 7)]


def test_while_a_fold_is_open_what_the_last_line_says_is_not_certain() -> None:
    broken = replace(ALL_KEYS, broken=frozenset({CANARY}))
    folded = {"of": "breaker_opened", "model": MODEL, "count": 1, "since": 200.0, "open": True, "tables": {}}
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: ALL_KEYS}),
        Entry(200.0, FIRST, "folded", folded, {MODEL: broken}),
    )

    assert said(asked(lines, 230.0, "a")) == [("canary", 8), ("production", 7)]


def test_a_model_that_left_the_configuration_was_not_served() -> None:
    lines = line_up(
        Entry(100.0, FIRST, "start", {}, {MODEL: NO_KEY}),
        Entry(200.0, FIRST, "configuration", {}, {}, (MODEL,)),
    )
    answer = asked(lines, 250.0, "a")

    assert [one.period.routes for one in answer.candidates] == [None]


def test_a_gateway_that_goes_on_in_the_chain_of_a_state_directory_is_still_one_gateway() -> None:
    """In its log its first lines are a chain of their own, because another one had the lock."""
    alone = line_up(Entry(100.0, SECOND, "start", {}, {MODEL: NO_KEY}))
    held = line_up(Entry(50.0, FIRST, "start", {}, {MODEL: NO_KEY}), Entry(150.0, FIRST, "stop"))
    joined = encode(Entry(160.0, SECOND, "lock_taken", {}, {MODEL: ALL_KEYS}), digest_of(held[-1]))

    assert said(asked([*held, *alone, joined], 200.0, "a")) == [("canary", 8)]


def test_pins_of_then_are_exact_where_they_are_those_of_the_file_and_else_said() -> None:
    """The journal has their number and digest; which keys they are stands in the file alone."""
    then = PinLists({CANARY: ("qa-1",), PRODUCTION: ("user-2",)})
    others = PinLists({CANARY: ("qa-1", "user-1")})
    pinned = replace(served(), pins=then.compiled(MODEL))
    lines = line_up(Entry(1000.0, GATEWAY, "start", {}, {MODEL: pinned}))

    [exact] = asked(lines, 2000.0, "user-2", then).candidates
    [unsure] = asked(lines, 2000.0, "user-2", others).candidates
    assert exact.assignment is not None
    assert unsure.assignment is not None
    assert (exact.assignment.alias, exact.assignment.reason, exact.unknown_pins) == (
        PRODUCTION,
        Reason.PINNED,
        0,
    )
    assert (unsure.assignment.alias, unsure.assignment.reason, unsure.unknown_pins) == (
        CANARY,
        Reason.HASH,
        2,
    )


def test_pins_that_came_later_say_nothing_of_before() -> None:
    lines = line_up(Entry(1000.0, GATEWAY, "start", {}, {MODEL: served()}))
    [candidate] = asked(lines, 2000.0, "user-2", PinLists({PRODUCTION: ("user-2",)})).candidates

    assert candidate.assignment is not None
    assert (candidate.assignment.alias, candidate.unknown_pins) == (CANARY, 0)
