"""Evidence of an imaginary run: what gateways observed of it, and its state."""

from hypothesis import strategies as st

from router.analysis.criteria import Criteria
from router.analysis.run_key import RunSubject, subject_of
from router.analysis.run_state import RunState, RunStateData
from router.analysis.statistics.records import ArmRecord, Batch, Ended, Join, Ranges, Record, RunCell, RunId
from router.core.ids import CANARY, VersionId
from router.core.scores import ScoreSpec

RANGES = Ranges((5_000, 100_000), (0, 5_000))
SUBJECT = subject_of(
    CANARY, VersionId("sentiment", 7), VersionId("sentiment", 8), "salt", [ScoreSpec()], Criteria()
)
RUN = RunId(SUBJECT.key, 1)
FIRST = 340_000_000
"""Cell in which it began."""


def subject(version: int = 8, model: str = "sentiment") -> RunSubject:
    """The same of another version, or of another model."""
    versions = VersionId(model, 7), VersionId(model, version)
    return subject_of(CANARY, *versions, "salt", [ScoreSpec()], Criteria())


def a_state(cells: int = 0) -> RunStateData:
    """One into which so many cells were folded."""
    state = RunState.begin(SUBJECT.criteria, SUBJECT.output, FIRST)
    for cell in range(FIRST, FIRST + cells):
        state.fold(cell, [observed(10, 2, buckets=range(cell % 1000, cell % 1000 + 12))])
    return state.dump()


def observed(production: int = 10, canary: int = 2, buckets: range = range(4_990, 5_002)) -> RunCell:
    """So many requests of both arms, to these buckets, without a fault."""
    record = Record(RANGES, None, ArmRecord(production), ArmRecord(canary), seen=set(buckets))
    return RunCell(compares=True, began_with=RANGES, records=[record])


buckets = st.sets(st.integers(0, 99_999), max_size=40)
counts = st.integers(0, 2**53 - 1)


@st.composite
def arms(draw: st.DrawFn) -> ArmRecord:
    """Counts of one arm that do not contradict each other."""
    requests = draw(st.integers(0, 1_000))
    faults, timed = draw(st.integers(0, requests)), draw(st.integers(0, requests))
    groups = st.dictionaries(st.integers(0, 1_023), st.lists(counts, min_size=6, max_size=6), max_size=3)
    return ArmRecord(
        requests,
        faults,
        draw(st.integers(0, faults)),
        timed,
        draw(st.integers(0, timed)),
        draw(st.integers(0, requests)),
        draw(st.dictionaries(st.integers(0, 300), counts, max_size=5)),
        draw(st.dictionaries(st.integers(0, 201), counts, max_size=5)),
        draw(st.none() | groups),
    )


ranges = st.builds(
    Ranges,
    st.tuples(st.integers(0, 50_000), st.integers(50_000, 100_000)),
    st.tuples(st.integers(0, 50_000), st.integers(50_000, 100_000)),
)
records = st.builds(
    Record,
    ranges,
    st.none() | st.floats(1e-6, 600.0),
    arms(),
    arms(),
    buckets,
    buckets,
    buckets,
    buckets,
    st.dictionaries(st.integers(0, 99_999), st.integers(0, 201), max_size=20),
    counts,
)
cells = st.builds(
    RunCell,
    st.booleans(),
    ranges,
    st.lists(records, max_size=3),
    st.none() | st.dictionaries(st.integers(0, 300), counts, max_size=5),
    st.none() | st.binary(max_size=20),
    st.booleans(),
)
keys = st.text("0123456789abcdef", min_size=32, max_size=32)
some_ids = st.sampled_from(["0" * 16, "0123456789abcdef", "f" * 16])
some_hosts = st.sampled_from(["", "gw-1", "münchen"])
batches = st.builds(
    Batch,
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.integers(0, 2**40),
    st.dictionaries(keys, st.tuples(st.integers(1, 2**53 - 1), cells), max_size=3),
    st.lists(st.builds(Join, some_ids, some_ids, some_hosts, st.integers(0, 2**40)), max_size=2),
    st.lists(st.builds(Ended, some_ids, some_hosts), max_size=2),
)
