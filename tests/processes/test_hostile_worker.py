"""A worker whose version writes into its socket: it is ended, and nobody gets an answer that is not his."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import asdict

from router.core.ids import VersionId
from router.core.scores import ScoreCounts
from router.errors import ChildLost, LoadFailed
from router.processes.child import Child, ChildPipes
from router.processes.process import Exit
from router.processes.worker_client import Worker
from router.protocol import messages as wire
from router.protocol.channel import Channel
from router.protocol.frames import encode_frame
from router.protocol.messages import (
    Answer,
    Batch,
    Batching,
    LoadSpec,
    PredictStatus,
    Query,
    VersionInfo,
    answers_frame,
)
from router.protocol.shadow_frames import Compared, ShadowQuery
from tests.support.waiting import until

SPEC = LoadSpec(VersionId("churn", 1), "/cache/churn/1", None)
INFO = VersionInfo("r1", "sklearn", True, False, {"load": 0.5}, ())
GOOD = Answer(PredictStatus.OK, 200, b"{}", "application/json", 1, 0.1)


class Puppet:
    """Stands for the process: a test holds its end of the socket."""

    def __init__(self) -> None:
        self.pid = 0
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.sock: socket.socket
        self.launched = asyncio.Event()

    def kill(self) -> None:
        if not self.exited.done():
            self.exited.set_result(Exit(signal=signal.SIGKILL))
            self.sock.close()

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        ends = ChildPipes()
        await ends.connect()
        self.sock = socket.socket(fileno=os.dup(ends.theirs()[0]))
        ends.close_theirs()
        self.launched.set()
        return Child(role, self, ends)

    async def close(self) -> None: ...

    def say(self, header: dict[str, Any], *bodies: bytes) -> None:
        self.sock.sendall(b"".join(encode_frame(header, bodies)))

    def answer(self, sequence: int, index: int, answer: Answer = GOOD) -> None:
        header, bodies = answers_frame(Batch(sequence, (index,), (answer,)))
        self.say(header, *bodies)


@pytest.fixture
async def puppet() -> AsyncIterator[Puppet]:
    puppet = Puppet()
    yield puppet
    puppet.kill()


async def started(puppet: Puppet, slack: float, *said: Callable[[], None]) -> Worker:
    """A worker that said these things once it was asked to load."""
    start = asyncio.create_task(Worker.start(puppet, SPEC, deadline_seconds=5 * slack))
    await puppet.launched.wait()
    frame = await asyncio.to_thread(Channel(puppet.sock).receive)
    assert frame is not None
    assert frame.header["id"] == 1
    for say in said:
        say()
    return await start


async def ready(puppet: Puppet, slack: float) -> Worker:
    return await started(puppet, slack, lambda: puppet.say({**wire.ready_header(INFO), "id": 1}))


@pytest.mark.parametrize(
    "odd",
    [
        {"run_id": None},
        {"phase_seconds": 5},
        {"scores": [{"output": 0, "low": 0.0, "high": 1.0, "bins": 3_000_000, "upper": []}]},
    ],
)
async def test_an_odd_description_is_a_failed_load_and_ends_the_worker(
    puppet: Puppet, slack: float, odd: dict[str, Any]
) -> None:
    header = wire.ready_header(INFO)
    header["info"].update(odd)

    with pytest.raises(LoadFailed, match="its worker sent a malformed description of itself"):
        await started(puppet, slack, lambda: puppet.say({**header, "id": 1}))

    assert puppet.exited.done()


@pytest.mark.parametrize(
    "header",
    [
        {"op": "ready"},
        {"op": "ready", "id": 2},
        {"op": "ready", "id": [1]},
        {"op": "ready", "id": True},
        {"op": "answer", "id": 1},
        {"id": 1},
        {"op": "failed", "id": 1, "phase": 7, "error": "x"},
    ],
)
async def test_anything_else_than_an_outcome_is_a_failed_load(
    puppet: Puppet, slack: float, header: dict[str, Any]
) -> None:
    with pytest.raises(LoadFailed, match="its worker sent a"):
        await started(puppet, slack, lambda: puppet.say(header))

    assert puppet.exited.done()


async def test_what_announces_too_much_while_it_loads_is_refused_at_once(
    puppet: Puppet, slack: float
) -> None:
    with pytest.raises(LoadFailed, match="its worker sent a header of 8388608 bytes"):
        await started(puppet, slack, lambda: puppet.sock.sendall(struct.pack("!IQ", 8 << 20, 0)))

    assert puppet.exited.done()


async def test_one_that_ends_while_it_loads_is_lost_and_not_refused(puppet: Puppet, slack: float) -> None:
    with pytest.raises(ChildLost, match="SIGKILL"):
        await started(puppet, slack, puppet.kill)


async def test_one_that_says_more_than_that_it_is_ready_is_ended(puppet: Puppet, slack: float) -> None:
    """Also when both frames come before anybody looks."""
    worker = await started(
        puppet,
        slack,
        lambda: puppet.say({**wire.ready_header(INFO), "id": 1}),
        lambda: puppet.answer(1, 0),
    )

    async with asyncio.timeout(2 * slack):
        assert "nobody asked for" in str(await asyncio.shield(worker.exited))


async def test_answers_in_turn_are_handed_out(puppet: Puppet, slack: float) -> None:
    worker = await ready(puppet, slack)
    answers: list[Any] = []

    for sequence in (1, 2):
        worker.submit([Query(b"", None)] * 2, lambda *batch: answers.append(batch))
        puppet.answer(sequence, 0)
        puppet.answer(sequence, 1)
        await until(lambda: len(answers) == 2 * sequence, 2 * slack)  # noqa: B023 - called in this round

    assert answers == [((0,), (GOOD,)), ((1,), (GOOD,))] * 2
    assert not worker.exited.done()


@pytest.mark.parametrize(
    ("turns", "heard"),
    [
        ([(1, 3)], []),
        ([(1, 0), (1, 0)], [0]),
        ([(1, 2), (1, 0), (1, 2)], [2, 0]),
        ([(1, -1)], []),
        ([(0, 0)], []),
        ([(2, 0)], []),
        ([(1, 0), (1, 1), (1, 2), (1, 3)], [0, 1, 2]),
    ],
    ids=["beyond", "repeats", "repeats later", "negative", "of before", "of later", "one too many"],
)
async def test_an_answer_out_of_turn_is_delivered_to_nobody_and_ends_the_worker(
    puppet: Puppet, slack: float, turns: list[tuple[int, int]], heard: list[int]
) -> None:
    worker = await ready(puppet, slack)
    answers: list[int] = []
    worker.submit([Query(b"", None)] * 3, lambda places, _answers: answers.extend(places))

    for turn in turns:
        puppet.answer(*turn)

    async with asyncio.timeout(2 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL
    assert answers == heard


async def test_a_late_answer_is_not_given_to_the_next_caller(puppet: Puppet, slack: float) -> None:
    """A version that answered ahead of its predict leaves one answer over, the first caller's."""
    worker = await ready(puppet, slack)
    first, second = [], []
    worker.submit([Query(b"", None)], lambda *batch: first.append(batch))
    puppet.answer(1, 0)
    await until(lambda: bool(first), 2 * slack)
    worker.submit([Query(b"", None)], lambda *batch: second.append(batch))

    puppet.answer(1, 0)

    async with asyncio.timeout(2 * slack):
        assert "an answer out of turn" in str(await asyncio.shield(worker.exited))
    assert second == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(PredictStatus.OK, 200, b"{}", "text/html\r\nX-Evil: 1", 1, 0.1),
        Answer(PredictStatus.OK, 99999, b"{}", "application/json", 1, 0.1),
        Answer(PredictStatus.OK, 200, b"{}", "application/json", -1, 0.1),
        Answer(PredictStatus.OK, 200, b"{}", "application/json", 1, -1e300),
        Answer(PredictStatus.OK, 200, b"{}", "application/json", 1, 0.1, (ScoreCounts((1,)),)),
    ],
)
async def test_an_odd_answer_ends_the_worker(puppet: Puppet, slack: float, answer: Answer) -> None:
    worker = await ready(puppet, slack)
    answers: list[Any] = []
    worker.submit([Query(b"", None)], lambda *batch: answers.append(batch))

    puppet.answer(1, 0, answer)

    async with asyncio.timeout(2 * slack):
        assert str(await asyncio.shield(worker.exited)) == "signal 9 (SIGKILL); it sent a malformed answer"
    assert answers == []


async def test_an_answer_that_announces_too_much_ends_the_worker(puppet: Puppet, slack: float) -> None:
    worker = await ready(puppet, slack)
    worker.submit([Query(b"", None)], lambda *_batch: None)

    puppet.sock.sendall(struct.pack("!IQ", 100, 1 << 33))

    async with asyncio.timeout(2 * slack):
        await asyncio.shield(worker.exited)


async def test_a_worker_that_speaks_while_nobody_asks_is_ended(puppet: Puppet, slack: float) -> None:
    worker = await ready(puppet, slack)

    puppet.say({"op": "news"})

    async with asyncio.timeout(2 * slack):
        await asyncio.shield(worker.exited)


async def test_a_worker_may_say_at_any_time_whether_requests_share_predicts(
    puppet: Puppet, slack: float
) -> None:
    worker = await ready(puppet, slack)
    assert not worker.batching.merges

    puppet.say(wire.batching_header(Batching(merges=True, why="earned")))

    await until(lambda: worker.batching.merges, 2 * slack)
    assert not worker.exited.done()


@pytest.mark.parametrize("odd", [{"merges": 1}, {"why": None}, {"why": "x" * 3000}])
async def test_what_is_no_way_of_batching_ends_the_worker(
    puppet: Puppet, slack: float, odd: dict[str, Any]
) -> None:
    worker = await ready(puppet, slack)

    puppet.say({**wire.batching_header(Batching(merges=True, why="earned")), **odd})

    async with asyncio.timeout(2 * slack):
        assert "a malformed way of batching" in str(await asyncio.shield(worker.exited))


@pytest.mark.parametrize("left", [-1, 1.5, "many", None])
async def test_what_is_no_number_of_repeats_ends_the_worker(puppet: Puppet, slack: float, left: Any) -> None:
    worker = await ready(puppet, slack)

    puppet.say({**wire.repeats_header(2), "left": left})

    async with asyncio.timeout(2 * slack):
        assert "a malformed number of repeats" in str(await asyncio.shield(worker.exited))


async def test_a_worker_that_says_it_repeated_what_nobody_asked_for_reaches_nobody(
    puppet: Puppet, slack: float
) -> None:
    worker = await ready(puppet, slack)
    repeated: list[int] = []
    worker.repeat(lambda: repeated.append(worker.to_repeat))

    for left in (2, 1, 0):
        puppet.say(wire.repeats_header(left))

    await until(lambda: worker.to_repeat == 0 and bool(repeated), 2 * slack)
    assert repeated == [2]
    assert not worker.exited.done()


async def test_a_comparison_that_nobody_asked_for_ends_the_worker(puppet: Puppet, slack: float) -> None:
    """Nor another one's, nor the same one twice."""
    worker = await ready(puppet, slack)
    compared: list[Compared] = []
    worker.shadow(ShadowQuery(Query(b"{}", None), None, 0.5), compared.append)
    good = asdict(Compared("compared", 1, PredictStatus.OK, 1, 1, False, 0.25, 0.125, 0.25))
    puppet.say(good)
    await until(lambda: compared)
    assert worker.processor_time.by_phase()["shadow"] == 0.125
    assert worker.predict_seconds == 0.0, "what threads are shared out by"

    puppet.say(good)

    await until(puppet.exited.done)
    assert len(compared) == 1
