"""The state of a run: the same wherever its cells are folded, and what counts in a cell."""

import random
import sys
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.criteria import Criteria
from router.analysis.run_state import DAY_CELLS, RunState
from router.analysis.statistics.cell_recorder import CellRecorder, Observation
from router.analysis.statistics.durations import bin_of
from router.analysis.statistics.records import ArmRecord, Ranges, Record, RunCell, merge
from router.analysis.statistics.shadow_counter import ShadowPair
from router.core.ids import CANARY
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec
from router.core.verdict import Verdict
from tests.analysis.statistics.observed import Observed, request, split_of
from tests.analysis.statistics.pairs import pair

FIRST = 1_000_003
"""A cell that is no multiple of anything."""
HALF, QUARTER = Ranges((50_000, 100_000), (0, 50_000)), Ranges((25_000, 100_000), (0, 25_000))
SCORES = ScoreSpec(bins=5)


# One stream, dealt to several processes


class Process:
    """One of those that observe a run; what it drains is merged as it comes."""

    def __init__(self, share: float, output: OutputSpec) -> None:
        self.recorder = CellRecorder(CANARY, split_of(share), None, output)
        self.began_with = self.recorder.ranges
        self.drained: list[Record] = []

    def drain(self, *, groups: bool = False) -> None:
        self.drained += self.recorder.drain(groups=groups)

    def end_cell(self, cells: int, order: random.Random, output: OutputSpec) -> RunCell:
        """What it says of the cell, out of what was drained, merged in any order."""
        self.drain(groups=True)
        order.shuffle(self.drained)
        records: dict[tuple[Any, ...], Record] = {}
        for each in self.drained:
            known = records.setdefault((each.ranges, each.line), Record(each.ranges, each.line))
            merge(known, each, output.index_count)
        part = RunCell(True, self.began_with, list(records.values()))
        self.drained = []
        self.recorder.begin_cell(cells)
        self.began_with = self.recorder.ranges
        return part


class Cell(NamedTuple):
    """What happens in one cell."""

    requests: list[Observation]
    pairs: list[ShadowPair]
    """Of production's requests."""
    share: float
    """Configured when it ends."""


def stream(seed: int, cells: int, output: OutputSpec, *, shadow: bool = False) -> list[Cell]:
    """Traffic of a few hundred keys, some of which ask often; a worse canary, crashes, a share that rises.
    With `shadow` half of what production was asked is compared."""
    drawn, share, call, made = random.Random(seed), 0.2, 0, []
    keys = [drawn.randrange(100_000) for _ in range(300)]
    for cell in range(cells):
        requests, pairs = [], []
        for _ in range(drawn.randrange(60)):
            bucket = keys[min(drawn.randrange(300), drawn.randrange(300))]
            bad = drawn.random() < (0.1 if bucket < 20_000 else 0.05)
            batch = None
            if bad and drawn.random() < 0.3:
                call += drawn.random() < 0.5
                batch = call
            requests.append(
                request(
                    bucket,
                    share=share,
                    fault=bad,
                    seconds=drawn.choice([0.004, 0.011, 0.2]),
                    bin_index=drawn.choice([None, *range(output.index_count)]),
                    blamed_batch=batch,
                    excused=bad and drawn.random() < 0.1,
                    abandoned=not bad and drawn.random() < 0.02,
                )
            )
            if shadow and bucket >= split_of(share).canary and drawn.random() < 0.5:
                fault, difference = drawn.random() < 0.2, drawn.choice([None, 0.0, 0.25, -1e-3])
                faults = {"production_fault": bad, "canary_fault": fault}
                pairs.append(pair(bucket, share=share, difference=difference, **faults))
        if cell == cells // 2:
            share = 0.5
        made.append(Cell(requests, pairs, share))
    return made


def folded(
    cells: list[Cell],
    count: int,
    seed: int,
    output: OutputSpec,
    reload_at: frozenset[int] = frozenset(),
    *,
    shadow: bool = False,
) -> RunState:
    """The state after `count` processes had those requests, dealt out by chance; a call is not torn apart."""
    dealt, criteria = random.Random(seed), Criteria(shadow=True) if shadow else Criteria()
    state = RunState.begin(criteria, output, FIRST)
    processes = [Process(0.2, output) for _ in range(count)]
    for index, (requests, pairs, share) in enumerate(cells):
        for one in requests:
            turn = dealt.randrange(count) if one.blamed_batch is None else one.blamed_batch % count
            processes[turn].recorder.observe(one)
            if dealt.random() < 0.05:
                dealt.choice(processes).drain()
        for compared in pairs:
            dealt.choice(processes).recorder.compare(compared)
        for process in processes:
            process.recorder.change_split(split_of(share))
        parts = [process.end_cell(index + 1, dealt, output) for process in processes]
        dealt.shuffle(parts)
        state.fold(FIRST + index, parts)
        for process in processes:
            process.recorder.change_line(state.line)
        if index in reload_at:
            state = RunState.load(state.dump(), criteria, output)
    return state


OUTPUTS = st.sampled_from([SCORES, ClassSpec(0, ("a", "b", "c"))])


@settings(max_examples=6, deadline=None)  # each deals the stream out three times: a second of processor time
@given(seed=st.integers(0, 10_000), output=OUTPUTS, shadow=st.booleans())
def test_whoever_had_which_request_the_state_is_the_same_to_the_last_bit(
    seed: int, output: OutputSpec, *, shadow: bool
) -> None:
    cells = stream(seed, 220, output, shadow=shadow)
    alone, *others = (folded(cells, count, seed + count, output, shadow=shadow) for count in (1, 3, 5))
    pairs = alone.report().shadow
    assert (pairs is not None and pairs.counts.pairs > 500) == shadow

    for other in others:
        assert other.digest() == alone.digest()
        assert other.dump() == alone.dump()
        assert msgspec.msgpack.encode(other.dump()) == msgspec.msgpack.encode(alone.dump())
        assert other.report() == alone.report()
        assert other.report().faults.cumulative.ln_e == alone.report().faults.cumulative.ln_e != 0.0


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    at=st.sets(st.integers(0, 219), min_size=1, max_size=5),
    output=OUTPUTS,
    shadow=st.booleans(),
)
def test_what_is_loaded_goes_on_as_what_was_dumped(
    seed: int, at: set[int], output: OutputSpec, *, shadow: bool
) -> None:
    cells = stream(seed, 220, output, shadow=shadow)
    went_on, loaded = (
        folded(cells, 2, seed, output, reload, shadow=shadow) for reload in (frozenset[int](), frozenset(at))
    )

    assert loaded.dump() == went_on.dump()
    assert loaded.digest() == went_on.digest()
    assert loaded.report() == went_on.report()
    assert loaded.spread() == went_on.spread()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), gap=st.sampled_from([1, 5, 59, 60, 61, 200, 719, 720, 721, 2_000, 9_000]))
def test_cells_that_are_skipped_are_as_empty_ones(seed: int, gap: int) -> None:
    before = folded(stream(seed, 40, SCORES), 1, seed, SCORES).dump()
    skipped, empty = (RunState.load(before, Criteria(), SCORES) for _ in range(2))
    last = before.horizon + gap
    skipped.fold(last + 1, [])
    for cell in range(before.horizon + 1, last + 2):
        empty.fold(cell, [])

    assert skipped.dump() == empty.dump()
    assert skipped.report() == empty.report()


def test_its_digest_is_of_what_was_folded() -> None:
    states = [RunState.begin(Criteria(), None, FIRST) for _ in range(3)]
    digests = [state.digest() for state in states]
    assert len(set(digests)) == 1
    assert len(digests[0]) == 16

    states[1].note_outage(FIRST)
    states[1].note_unclean_end(FIRST, "gw-1")
    states[2].fold(FIRST, [])
    assert states[1].digest() == digests[0] != states[2].digest()


def test_a_cell_is_folded_once() -> None:
    state = RunState.begin(Criteria(), None, FIRST)
    state.fold(FIRST + 3, [])

    for cell in (FIRST + 3, FIRST - 1):
        with pytest.raises(ValueError, match="is not after"):
            state.fold(cell, [])


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"events": b"\0"}, SCORES),
        ({"durations": ([0], [0])}, SCORES),
        ({"groups": [[0] * 1024]}, SCORES),
        ({"scores": None}, SCORES),
        ({}, None),
        ({}, ScoreSpec(bins=7)),
    ],
    ids=["buckets", "durations", "groups", "no-scores", "scores", "bins"],
)
def test_data_of_no_such_state_is_refused(change: dict[str, Any], output: OutputSpec | None) -> None:
    data = RunState.begin(Criteria(), SCORES, FIRST).dump()
    for name, value in change.items():
        setattr(data, name, value)

    with pytest.raises(ValueError, match=r"score|bins|buckets|lists"):
        RunState.load(data, Criteria(), output)


def test_what_was_dumped_is_a_copy() -> None:
    state = folded(stream(1, 20, SCORES), 1, 1, SCORES)
    data = state.dump()
    before = msgspec.msgpack.encode(data)
    state.fold(state.horizon + 1, [of(HALF, (50, 5), (50, 9), faulty={1, 2}, seen={3})])
    RunState.load(data, Criteria(), SCORES).fold(data.horizon + 1, [of(HALF, (9, 0), (9, 0))])

    assert msgspec.msgpack.encode(data) == before


# What counts in a cell


def of(
    ranges: Ranges,
    production: tuple[int, int],
    canary: tuple[int, int],
    *,
    line: float | None = None,
    groups: bool = True,
    began_with: Ranges | None = None,
    compares: bool = True,
    **said: Any,
) -> RunCell:
    """What one process says of a cell: requests and faults of each arm, each of a key of its own."""

    def arm(requests: int, faults: int) -> ArmRecord:
        by_group = {key: [1, int(key < faults), 0, 0, 0, 0] for key in range(requests)}
        return ArmRecord(requests, faults, groups=by_group if groups else None)

    record = Record(ranges, line, arm(*production), arm(*canary), **said)
    return RunCell(compares, began_with or ranges, [record])


def started(criteria: Criteria = Criteria()) -> RunState:  # noqa: B008 - frozen
    return RunState.begin(criteria, None, FIRST)


def test_a_step_begins_with_the_first_cell_that_all_began_with_one_other_split() -> None:
    state = started()
    state.fold(FIRST, [of(HALF, (10, 0), (10, 0)), of(HALF, (1, 0), (1, 0))])
    assert (state.ranges, state.step_cell) == (HALF, FIRST)

    # One changes within the cell: what was routed before counts, what came after does not yet.
    changed = of(HALF, (5, 0), (5, 0))
    changed.records += of(QUARTER, (700, 0), (7, 0)).records
    state.fold(FIRST + 1, [changed, of(HALF, (1, 0), (1, 0))])
    state.fold(FIRST + 2, [of(QUARTER, (700, 0), (7, 0)), of(HALF, (1, 0), (1, 0))])
    report = state.report()
    assert (state.ranges, state.step_cell) == (HALF, FIRST)
    assert (report.faults.production.requests, report.left_out) == (18, 1414)

    state.fold(FIRST + 3, [of(QUARTER, (3, 0), (1, 0)), of(HALF, (9, 0), (9, 0), began_with=QUARTER)])
    report = state.report()
    assert (state.ranges, state.step_cell) == (QUARTER, FIRST + 3)
    assert (report.faults.production.requests, report.share, report.step_seconds) == (3, 0.25, 5.0)
    assert report.seconds == 20.0


def test_who_does_not_compare_is_not_asked_and_what_was_routed_before_counts() -> None:
    """A breaker that opened, or a cap: no split, but its records are of requests from before that."""
    state = started()
    state.fold(FIRST, [of(HALF, (10, 0), (10, 0)), of(HALF, (1, 0), (1, 1))])
    state.fold(
        FIRST + 1, [of(QUARTER, (4, 0), (2, 0)), of(HALF, (0, 0), (1, 1), began_with=HALF, compares=False)]
    )
    assert (state.ranges, state.report().faults.canary.requests) == (QUARTER, 2)

    state.fold(FIRST + 2, [of(QUARTER, (0, 0), (1, 1), began_with=HALF, compares=False)])
    assert (state.ranges, state.report().faults.canary.requests) == (QUARTER, 3)


def test_nothing_counts_before_all_have_one_split() -> None:
    state = started()
    state.fold(FIRST, [of(HALF, (10, 0), (10, 0)), of(QUARTER, (1, 0), (1, 0))])

    assert state.ranges is None
    assert (state.report().faults.canary.requests, state.report().left_out) == (0, 22)


@pytest.mark.parametrize(
    "wrong",
    [
        Ranges((0, 60_000), (50_000, 100_000)),
        Ranges((0, 100_001), (0, 0)),
        Ranges((-1, 5), (5, 9)),
        Ranges((9, 5), (20, 30)),
    ],
    ids=["overlap", "too-many", "negative", "backwards"],
)
def test_ranges_that_are_no_split_are_not_taken_up(wrong: Ranges) -> None:
    state = started()
    state.fold(FIRST, [of(wrong, (9, 9), (9, 9))])

    assert state.ranges is None
    assert Ranges((5, 5), (0, 9)).is_split


def test_a_bucket_that_several_report_is_hit_once() -> None:
    state = started()
    state.fold(
        FIRST,
        [
            of(HALF, (9, 2), (9, 2), faulty={1, 60_000}, faulty_calls={2, 3}),
            of(HALF, (9, 2), (9, 2), faulty={1, 2}, faulty_calls={1, 70_000}),
        ],
    )
    faults = state.report().faults
    assert (faults.canary.hit_keys, faults.production.hit_keys) == (3, 2)

    before = faults.cumulative.ln_e
    state.fold(FIRST + 1, [of(HALF, (9, 2), (9, 2), faulty={3, 60_000}, faulty_calls={70_000, 2})])
    assert state.report().faults.cumulative.ln_e == before


def test_a_pass_is_looked_at_where_every_gateway_counted_by_group() -> None:
    """How unevenly keys ask must be known of all requests, or heavy users would pass it."""
    state, criteria = started(), (2_000, 0)
    for cell in range(3):
        parts = [of(HALF, criteria, criteria, groups=False), of(HALF, (0, 0), (0, 0))]
        state.fold(FIRST + cell, parts)
        assert state.report().faults.verdict is Verdict.NOT_ENOUGH_DATA

    state.fold(FIRST + 3, [of(HALF, (900, 0), (900, 0)), RunCell(True, HALF)])
    assert state.report().faults.verdict is Verdict.PASS, "who has no records has nothing to count"

    state.fold(FIRST + 4, [of(HALF, (900, 300), (900, 900), groups=False)])
    assert state.report().faults.verdict is not Verdict.PASS


def history(seconds: float, count: int) -> dict[int, int]:
    return {bin_of(seconds): count}


def test_the_line_is_that_of_all_histories_where_they_have_two_hundred_answers() -> None:
    state = started(Criteria(min_ratio=1.5))
    parts = [of(HALF, (9, 0), (9, 0)) for _ in range(3)]
    for part, (seconds, count) in zip(parts, ((0.02, 150), (0.1, 49), (9.0, 1)), strict=True):
        part.history = history(seconds, count)
    state.fold(FIRST, parts)

    assert state.line == pytest.approx(0.15, rel=0.05)
    line = state.line
    late = of(HALF, (9, 0), (9, 0))
    late.history = history(5.0, 10_000)
    state.fold(FIRST + 1, [late])
    assert state.line == line, "fixed then"


def test_without_history_the_line_is_learned_from_the_first_cells() -> None:
    state = started()
    for cell in range(4):
        part = of(HALF, (60, 0), (60, 0))
        part.records[0].production.durations = history(0.1, 60)
        part.records[0].canary.durations = history(0.5, 60)
        part.history = history(7.0, 40)
        assert state.line is None
        state.fold(FIRST + cell, [part])

    assert state.line == pytest.approx(0.12, rel=0.05)


def test_what_was_held_against_another_line_counts_for_faults_only() -> None:
    state = started()
    first = of(HALF, (9, 0), (9, 0))
    first.history = history(0.1, 200)
    state.fold(FIRST, [first])
    for line in (None, 0.05, state.line):
        part = of(HALF, (10, 1), (10, 1), line=line, slow={7} if line else set())
        for arm in (part.records[0].production, part.records[0].canary):
            arm.timed, arm.slow = 9, 3
        state.fold(state.horizon + 1, [part])
    report = state.report()

    assert report.faults.canary.requests == 39
    assert (report.latency.canary.requests, report.latency.canary.events) == (9, 3)
    assert report.latency.canary.hit_keys == 1


# An outage, by whole cells


def test_the_newest_cells_that_hold_fifty_requests_decide_an_outage() -> None:
    state = started()
    state.fold(FIRST, [of(HALF, (0, 0), (1_000, 0))])
    state.fold(FIRST + 1, [of(HALF, (0, 0), (30, 30))])
    assert state.report().faults.failed_by == "", "30 of the newest 1 030"

    state.fold(FIRST + 2, [])
    state.fold(FIRST + 3, [of(HALF, (0, 0), (25, 0))])
    faults = state.report().faults
    assert (faults.failed_by, faults.failed_at) == ("outage", (FIRST + 4) * 5.0), "30 of the newest 55"
    assert faults.verdict is Verdict.FAIL


def test_faults_that_production_had_as_well_are_no_outage() -> None:
    state = started()
    part = of(HALF, (0, 0), (60, 60))
    part.records[0].canary.excused = 31
    state.fold(FIRST, [part])

    assert (state.report().faults.failed_by, state.report().faults.excused) == ("", 31)


@pytest.mark.parametrize("by", ["note", "cell"])
def test_an_outage_that_one_gateway_saw_fails_until_the_share_changes(by: str) -> None:
    state = started()
    part = of(HALF, (9, 0), (9, 0))
    part.outage = by == "cell"
    state.fold(FIRST, [part])
    if by == "note":
        state.note_outage(FIRST + 2)
    state = RunState.load(state.dump(), Criteria(), None)
    state.fold(FIRST + 2, [of(HALF, (900, 0), (900, 0))])
    assert state.report().verdict is Verdict.FAIL
    assert state.report().faults.failed_by == "outage"

    state.fold(FIRST + 3, [of(QUARTER, (900, 0), (300, 0))])
    assert state.report().faults.failed_by == ""


def test_a_fail_stays_with_its_cell_until_the_share_changes() -> None:
    state = started()
    state.fold(FIRST, [of(HALF, (100, 0), (100, 20), faulty=set(range(20)))])
    assert (state.report().faults.failed_by, state.report().faults.failed_at) == (
        "cumulative",
        (FIRST + 1) * 5.0,
    )

    state.fold(FIRST + 1, [of(HALF, (100_000, 0), (100_000, 0))])
    assert state.report().faults.failed_at == (FIRST + 1) * 5.0
    assert not state.report().faults.cumulative.large

    state.fold(FIRST + 2, [of(QUARTER, (10, 0), (10, 0))])
    assert state.report().faults.failed_at is None
    assert state.report().faults.cumulative.proven, "the proof goes on"


# Ends that nobody wrote of


def passing() -> Observed:
    seen = Observed(split_of(0.5))
    for bucket in random.Random(2).sample(range(100_000), 8_000):
        seen.observe(request(bucket, share=0.5))
    seen.look(60.0)
    return seen


def test_two_unclean_ends_within_a_day_keep_it_from_passing() -> None:
    state = passing().state
    assert state.report().verdict is Verdict.PASS

    state.note_unclean_end(5, "gw-1")
    state.note_unclean_end(5, "gw-1")
    assert (state.report().verdict, state.report().held_by) == (Verdict.PASS, ())

    state.note_unclean_end(9, "gw-2")
    state = RunState.load(state.dump(), Criteria(), None)
    report = state.report()
    assert report.verdict is Verdict.NOT_ENOUGH_DATA
    assert report.held_by == ((25.0, "gw-1"), (45.0, "gw-2"))
    assert {check.verdict for check in (report.faults, report.latency)} == {Verdict.PASS}

    state.fold(5 + DAY_CELLS, [])
    assert state.unclean_ends == [(9, "gw-2")]
    assert state.report().verdict is Verdict.PASS


def test_unclean_ends_neither_fail_it_nor_hide_a_fail() -> None:
    state = started()
    for cell in range(100):
        state.note_unclean_end(FIRST + cell, "gw-1")
    assert len(state.unclean_ends) == 32
    assert state.report().verdict is Verdict.NOT_ENOUGH_DATA

    state.note_outage(FIRST)
    assert state.report().verdict is Verdict.FAIL


# Memory


def test_its_memory_is_about_300_kilobytes_whatever_the_traffic() -> None:
    state, drawn = RunState.begin(Criteria(), ScoreSpec(), FIRST), random.Random(1)
    sizes = []
    for cell in range(200):
        counts = {group: [10_000, 99, 9_000, 80, 9_000, 10**9] for group in range(1024)}
        arms = (
            ArmRecord(10**6, 999, 9, 10**6, 999, 3, dict.fromkeys(range(333), 10**6), {3: 10**6}, counts)
            for _ in range(2)
        )
        hit = [set(drawn.sample(range(100_000), 2_000)) for _ in range(4)]
        first = {drawn.randrange(100_000): drawn.randrange(22) for _ in range(2_000)}
        record = Record(HALF, state.line, *arms, *hit, first)
        state.fold(FIRST + cell, [RunCell(True, HALF, [record])])
        sizes.append(size_of(state, set()))

    assert max(sizes) < 350_000
    assert max(sizes[70:]) - sizes[70] < 20_000
    assert len(msgspec.msgpack.encode(state.dump())) < 300_000


def size_of(thing: object, counted: set[int]) -> int:
    """Bytes of it and of all below it."""
    if id(thing) in counted or isinstance(thing, type | Criteria):
        return 0
    counted.add(id(thing))
    below: list[object] = []
    if isinstance(thing, dict):
        below = [*thing, *thing.values()]
    elif isinstance(thing, list | tuple | set):
        below = list(thing)
    elif type(thing).__module__.startswith("router.analysis"):
        names = getattr(thing, "__struct_fields__", ()) or getattr(thing, "__slots__", ())
        below = [getattr(thing, name) for name in names] or list(vars(thing).values())
    return sys.getsizeof(thing) + sum(size_of(each, counted) for each in below)
