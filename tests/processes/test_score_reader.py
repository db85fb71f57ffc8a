"""A real child reads the scores of answers: in time or not at all, and nobody ever waits for it."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import psutil
import pytest
import pytest_asyncio

from router.adapters.addresses import score_reader
from router.adapters.addresses.score_reader import ChildScoreReader
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.routing import Assignment, Reason
from router.core.score_events import ReadResult, ReadScore, ScoresRead
from router.core.scores import ClassSpec, OutputSpec, ScoreCounts, ScoreSpec
from router.core.split import Split
from router.errors import ChildLost
from router.processes.forkserver import ForkServerSupervisor
from router.protocol.messages import LoadSpec
from router.worker import answered_scores
from tests.processes.conftest import Notes
from tests.support.slowness import slack
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")

VERSION = VersionId("m", 3)
SPLIT = Split(20_000)
TWO_BINS = ScoreSpec(bins=2)
EXAMPLE = b'{"predictions": [0.25]}'


def to(alias: Alias, bucket: int | None = None, reason: Reason = Reason.HASH) -> Assignment:
    return Assignment(alias, VERSION, reason, bucket, split=SPLIT)


def answer(*scores: float, more: str = "") -> bytes:
    return orjson.dumps({"predictions": scores, "more": more})


class Readers:
    """Makes readers, and closes them."""

    def __init__(self, template: ForkServerSupervisor) -> None:
        self.template = template
        self.notes = Notes()
        self.opened: list[ChildScoreReader] = []

    async def __call__(
        self,
        *scores: OutputSpec,
        example: bytes | None = None,
        launcher: Any = None,
        production: tuple[OutputSpec, ...] | None = None,
        seconds: float = 20.0,
    ) -> ChildScoreReader:
        spec = LoadSpec(VERSION, "/nowhere", scores or None, production_scores=production)
        reader = ChildScoreReader(launcher or self.template, spec, "mlflow", self.notes)
        self.opened.append(reader)
        await reader.start(example, seconds=seconds)
        return reader

    def facts(self, result: ReadResult = ReadResult.READ) -> list[ScoresRead]:
        return [one for one in self.notes.events if isinstance(one, ScoresRead) and one.result is result]

    def answers(self, result: ReadResult = ReadResult.READ) -> int:
        return sum(one.answers for one in self.facts(result))

    def bins(self, alias: Alias) -> Sequence[int]:
        counts = [one.scores[0] for one in self.facts() if one.alias == alias]
        assert all(isinstance(one, ScoreCounts) for one in counts)
        return [sum(each) for each in zip(*(one.bins for one in counts), strict=True)]  # type: ignore[union-attr]


@pytest_asyncio.fixture(loop_scope="package")
async def readers(template: ForkServerSupervisor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Readers]:
    monkeypatch.setattr(score_reader, "_REPORT_SECONDS", 0.01)
    monkeypatch.setattr(score_reader, "_DELAYS", (0.01,))
    readers = Readers(template)
    yield readers
    for reader in readers.opened:
        await reader.close()


def pid_of(reader: ChildScoreReader) -> int:
    assert reader._child is not None
    return reader._child.pid


async def test_scores_are_counted_by_alias_and_those_of_keys_one_by_one(readers: Readers) -> None:
    reader = await readers(TWO_BINS)

    reader.offer(to(PRODUCTION, 50_000), answer(0.1))
    reader.offer(to(CANARY, 7), answer(0.9, 0.2))
    reader.offer(to(PRODUCTION, 60_000), answer(float("nan")))
    reader.offer(to(PRODUCTION, 60_001, Reason.FALLBACK), answer(0.8))
    reader.offer(to(PRODUCTION, None, Reason.NO_KEY), answer(0.7, 0.6))
    await until(lambda: readers.answers() == 5)

    assert readers.bins(PRODUCTION) == [1, 3]
    assert readers.bins(CANARY) == [1, 1]
    read = {one for fact in readers.facts() for one in fact.of_split}
    assert read == {ReadScore(50_000, SPLIT, 0), ReadScore(60_000, SPLIT, None), ReadScore(7, SPLIT, 1)}
    assert reader.results == {ReadResult.READ: 5}


async def test_the_answer_to_the_example_chooses_what_is_counted(readers: Readers) -> None:
    scores, labels, nothing = [
        await readers(example=each)
        for each in (EXAMPLE, b'{"predictions": ["ham"]}', b'{"predictions": [[1, 2, 3]]}')
    ]

    assert (scores.chosen.scores, scores.chosen.suggested_scores) == ((ScoreSpec(),), (ScoreSpec(),))
    assert scores.reads
    for other, note in ((labels, "answers are labels"), (nothing, "its answers have 3 columns")):
        assert (other.reads, other.chosen.scores, other._child) == (False, (), None)
        assert note in other.chosen.note


async def test_a_child_that_is_killed_is_replaced_and_counts_as_before(readers: Readers) -> None:
    """It would choose otherwise now, without the answer that the first one saw."""
    reader = await readers(example=b'{"predictions": [true]}')
    first, counted = pid_of(reader), reader.chosen.scores

    os.kill(first, signal.SIGKILL)
    await until(lambda: reader._child is None or pid_of(reader) != first)
    await until(lambda: reader._child is not None, 20 * slack())
    reader.offer(to(PRODUCTION), b'{"predictions": [false]}')
    await until(lambda: readers.answers() == 1)

    assert reader.chosen.scores == counted
    assert [one.scores[0] for one in readers.facts()] == [type(readers.facts()[0].scores[0])((1, 0, 0))]


async def test_each_child_that_ends_after_it_read_is_logged_and_so_is_the_next_that_reads(
    readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    """Of those that never read, the first alone is."""
    caplog.set_level(logging.INFO, score_reader.__name__)
    reader = await readers(TWO_BINS)

    async def end_and_read() -> None:
        first, before = pid_of(reader), readers.answers()
        os.kill(first, signal.SIGKILL)
        await until(lambda: reader._child is not None and pid_of(reader) != first, 20 * slack())
        reader.offer(to(PRODUCTION), answer(0.1))
        await until(lambda: readers.answers() > before)

    await end_and_read()
    await end_and_read()
    reader._launcher = broken = Broken()
    os.kill(pid_of(reader), signal.SIGKILL)
    await until(lambda: broken.tries > 3)

    logged = [one.levelname for one in caplog.records if one.name == score_reader.__name__]
    assert logged == ["WARNING", "INFO", "WARNING", "INFO", "WARNING"]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "ends"])
async def test_what_a_child_has_is_lost_with_it_and_nothing_else_is(
    readers: Readers, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(score_reader, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(score_reader, "ANSWER_SECONDS", 0.3 if number is signal.SIGSTOP else 20.0)
    reader = await readers(TWO_BINS)
    first = pid_of(reader)
    os.kill(first, signal.SIGSTOP)
    reader.offer(to(PRODUCTION), answer(0.1))
    await until(lambda: not reader._some.is_set())  # it has it
    if number is signal.SIGKILL:
        os.kill(first, signal.SIGKILL)
    monkeypatch.setattr(score_reader, "ANSWER_SECONDS", 20.0)

    await until(lambda: readers.answers(ReadResult.LOST) == 1, 10 * slack())
    await until(lambda: reader._child is not None, 20 * slack())
    reader.offer(to(PRODUCTION), answer(0.9))
    await until(lambda: readers.answers() == 1)

    assert readers.bins(PRODUCTION) == [0, 1]
    assert reader.results == {ReadResult.READ: 1, ReadResult.LOST: 1}
    assert not psutil.pid_exists(first)


async def test_more_than_a_child_reads_is_left_out_without_a_wait_and_counted(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_reader, "MOST_ANSWERS", 3)
    reader = await readers(TWO_BINS)
    os.kill(pid_of(reader), signal.SIGSTOP)
    reader.offer(to(PRODUCTION), answer(0.1))
    await until(lambda: not reader._some.is_set())

    for _ in range(10):
        reader.offer(to(PRODUCTION), answer(0.1))
    os.kill(pid_of(reader), signal.SIGCONT)
    await until(lambda: readers.answers() == 4)
    await until(lambda: readers.answers(ReadResult.BUSY) == 7)

    assert reader.results == {ReadResult.READ: 4, ReadResult.BUSY: 7}


async def test_the_answer_that_fills_the_room_is_read_and_none_after_it_however_short(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is counted would lean to requests of few rows: long ones meet a room that is nearly full."""
    monkeypatch.setattr(score_reader, "MOST_BYTES", 1000)
    monkeypatch.setattr(score_reader, "LONGEST_ANSWER", 1000)
    reader = await readers(TWO_BINS)

    for more in ("x" * 900, "x" * 900, "", ""):
        reader.offer(to(PRODUCTION), answer(0.1, more=more))
    reader.offer(to(PRODUCTION), answer(0.1, more="x" * 1000))
    await until(lambda: readers.answers() == 2)
    reader.offer(to(PRODUCTION), answer(0.1))
    await until(lambda: readers.answers() == 3)

    assert reader.results == {ReadResult.READ: 3, ReadResult.BUSY: 2, ReadResult.TOO_LONG: 1}


class Broken:
    """A launcher that starts nothing."""

    def __init__(self) -> None:
        self.tries = 0

    async def launch(self, *_: Any, **__: Any) -> Any:
        self.tries += 1
        raise ChildLost("no scores can be started: no memory")


class Slow(Broken):
    """A launcher that has a child start for ever."""

    async def launch(self, *_: Any, **__: Any) -> Any:
        self.tries += 1
        await asyncio.Event().wait()


@pytest.mark.parametrize("launcher", [Broken(), Slow()], ids=["fails", "hangs"])
@pytest.mark.parametrize(
    ("example", "scores"),
    [(b'{"predictions": [true]}', (ClassSpec(0, ("false", "true")),)), (b'{"predictions": [[1, 2, 3]]}', ())],
    ids=["something to count", "nothing"],
)
async def test_where_no_child_can_be_started_a_later_one_chooses_by_the_same_example(
    readers: Readers, launcher: Broken, example: bytes, scores: tuple[OutputSpec, ...]
) -> None:
    """Until then it is not known that an answer has no score."""
    reader = await readers(launcher=launcher, example=example, seconds=0.05)
    chosen = asyncio.Event()
    reader.on_chosen = chosen.set
    assert (reader.reads, reader.has_chosen, reader.chosen.scores) == (True, False, ())
    assert "Its scores are not read yet: what reads them could not be started" in reader.chosen.note
    reader.offer(to(PRODUCTION), answer(0.1))
    assert reader.results == {ReadResult.LOST: 1}
    await reader.close()

    reader = await readers(launcher=Broken(), example=example)
    reader.on_chosen = chosen.set
    reader._launcher = readers.template
    await asyncio.wait_for(chosen.wait(), 20 * slack())

    assert (reader.has_chosen, reader.reads) == (True, bool(scores))
    assert reader.chosen.scores == reader.chosen.suggested_scores == scores
    assert "not read yet" not in reader.chosen.note


async def test_where_production_says_what_to_count_it_is_counted_until_a_child_has_chosen(
    readers: Readers,
) -> None:
    reader = await readers(launcher=Broken(), example=EXAMPLE, production=(TWO_BINS,))

    assert (reader.reads, reader.has_chosen, reader.chosen.scores) == (True, False, (TWO_BINS,))


async def test_a_choice_that_is_settled_is_not_waited_for(readers: Readers) -> None:
    slow = Slow()

    reader = await asyncio.wait_for(readers(TWO_BINS, launcher=slow, seconds=0.0), 5)

    assert (reader.reads, reader.has_chosen, reader.chosen.note) == (True, True, "")
    await until(lambda: slow.tries == 1)


async def test_where_the_settings_say_what_to_count_a_later_child_does_it(readers: Readers) -> None:
    broken = Broken()
    reader = await readers(TWO_BINS, launcher=broken)
    reader.offer(to(PRODUCTION), answer(0.1))
    await until(lambda: broken.tries > 3)

    assert reader.error == "no scores can be started: no memory"

    reader._launcher = readers.template
    await until(lambda: reader._child is not None, 20 * slack())
    assert reader.error == ""
    reader.offer(to(PRODUCTION), answer(0.1))
    await until(lambda: readers.answers() == 1)

    assert reader.results == {ReadResult.READ: 1, ReadResult.LOST: 1}


async def test_a_reader_that_is_closed_leaves_no_process(readers: Readers) -> None:
    reader, idle = await readers(TWO_BINS), await readers(TWO_BINS)
    pids = [pid_of(reader), pid_of(idle)]
    reader.offer(to(PRODUCTION), answer(0.1))

    await asyncio.gather(reader.close(), idle.close())

    assert not any(map(psutil.pid_exists, pids))
    assert readers.answers(ReadResult.LOST) == 1


async def test_a_load_that_is_cancelled_leaves_no_process(readers: Readers) -> None:
    pids: list[int] = []

    class Stopped:
        """Starts children that do not get as far as their choice."""

        async def launch(self, *args: Any, **keys: Any) -> Any:
            child = await readers.template.launch(*args, **keys)
            os.kill(child.pid, signal.SIGSTOP)
            pids.append(child.pid)
            return child

    starting = asyncio.ensure_future(readers(TWO_BINS, example=EXAMPLE, launcher=Stopped()))
    await until(lambda: pids)

    starting.cancel()
    await asyncio.wait({starting})

    assert not psutil.pid_exists(pids[0])


async def test_an_answer_that_breaks_nothing_is_read_at_its_longest(readers: Readers) -> None:
    reader = await readers(TWO_BINS)

    reader.offer(to(PRODUCTION), b"[" * score_reader.LONGEST_ANSWER)
    reader.offer(to(PRODUCTION), b'{"predictions": [' + b"[]," * 300_000 + b"[]]}")
    await until(lambda: readers.answers() == 2, 20 * slack())

    [fact] = readers.facts()
    assert isinstance(fact.scores[0], ScoreCounts)
    assert fact.scores[0].non_numeric == 300_002
    most, _ = psutil.Process(pid_of(reader)).rlimit(psutil.RLIMIT_DATA)
    own = psutil.Process().memory_info()
    assert answered_scores.MOST_BYTES < most < answered_scores.MOST_BYTES + own.vms
