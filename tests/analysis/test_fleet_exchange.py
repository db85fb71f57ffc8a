"""What gateways of a fleet send each other about evidence: the same at the other end, in parts that fit."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from router.analysis import fleet_exchange as module
from router.analysis.evidence_format import decode_batch, encode_batch
from router.analysis.fleet import Fleet, SealedCell, Taken
from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_exchange import FleetEvidence
from router.analysis.statistics.records import ArmRecord, Batch, Ranges, Record, RunCell, cell_of
from router.core.ids import GatewayId

KEY, OTHER_KEY = "ab" * 16, "cd" * 16
RANGES = Ranges((5_000, 100_000), (0, 5_000))
START = 1_000_000.0
ROOM = 1 << 20
WHERE = "http://gw-2:81"


class Runs:
    """The states of a gateway's runs are texts; what is taken over is kept."""

    def __init__(self, **states: bytes) -> None:
        self.states = dict(states)
        self.lacking: list[str] = []
        self.followed: list[tuple[Taken, Sequence[str]]] = []

    def wanted(self) -> Sequence[str]:
        return self.lacking

    def keys(self) -> Sequence[str]:
        return [*self.states]

    def packed(self, key: str) -> bytes | None:
        return self.states.get(key)

    def unpacked(self, packed: bytes) -> str:
        if packed.startswith(b"garbage"):
            raise ValueError("the state of a run in it is no state of a run")
        return packed[:8].decode()

    def follow(self, taken: Taken, states: Sequence[str]) -> None:
        self.followed.append((taken, states))


class Gateway:
    """One, at a time that a test sets."""

    def __init__(self, number: int, **states: bytes) -> None:
        self.at = 0.0
        self.process = f"{number:016x}"
        self.fleet = Fleet(GatewayId(self.process, f"gw-{number}"), self.moment())
        self.runs = Runs(**states)
        self.evidence = FleetEvidence(self.fleet, self.runs, self.moment)
        self.sealed: list[SealedCell] = []
        self.next_cell = cell_of(START)

    def moment(self) -> Moment:
        return Moment(self.at, START + self.at)

    def ask(self, other: "Gateway", limit: int = ROOM) -> bool:
        """Returns whether the other one has more."""
        question = self.evidence.question()
        answer = other.evidence.answer(question, limit)
        assert len(answer) <= limit
        return self.evidence.take(answer, WHERE, self.at)

    def pass_to(self, at: float, runs: dict[str, tuple[int, RunCell]] | None = None) -> None:
        """Time passes; in each cell that is over, this was observed."""
        self.at = at
        while self.next_cell < self.moment().cell:
            self.fleet.own(Batch("", self.next_cell, dict(runs or {})), self.moment())
            self.next_cell += 1
        self.sealed += self.fleet.seal(self.moment())


def observed(*buckets: int, requests: int = 100) -> dict[str, tuple[int, RunCell]]:
    record = Record(RANGES, 0.5, canary=ArmRecord(requests, durations={3: requests}), seen={*buckets})
    return {KEY: (1, RunCell(compares=True, began_with=RANGES, records=[record]))}


def alone(number: int = 1, **states: bytes) -> Gateway:
    gateway = Gateway(number, **states)
    gateway.fleet.start(gateway.moment())
    return gateway


def test_two_gateways_seal_the_same_cells_with_what_both_observed() -> None:
    one, two = alone(1), Gateway(2)
    one.pass_to(6.0, observed(7))
    two.at = 6.0
    two.ask(one)
    two.fleet.start(two.moment())
    two.next_cell = two.moment().cell
    for step in range(8, 120, 2):
        one.pass_to(step, observed(7))
        two.pass_to(step, observed(8, 9))
        one.ask(two)
        two.ask(one)

    horizon = min(one.sealed[-1].cell, two.sealed[-1].cell)
    assert horizon >= cell_of(START) + 18
    both = {
        gateway.process: {sealed.cell: sealed for sealed in gateway.sealed if sealed.cell <= horizon}
        for gateway in (one, two)
    }
    assert both[two.process].items() <= both[one.process].items()
    last = both[one.process][horizon]
    assert [*last.batches] == [one.process, two.process]
    seen = [part.records[0].seen for part in last.runs[next(iter(last.runs))]]
    assert sorted(map(sorted, seen)) == [[7], [8, 9]]


def test_a_gateway_that_begins_gets_the_states_of_all_runs_beside_that_of_the_fleet() -> None:
    one, two = alone(1, **{KEY: b"1 state", OTHER_KEY: b"2 state"}), Gateway(2)
    one.pass_to(6.0, observed(7))
    two.at = 6.0

    assert not two.ask(one)

    [(taken, states)] = two.runs.followed
    assert taken.took_over
    assert states == ["1 state", "2 state"]


def test_states_that_do_not_fit_are_asked_for_by_their_runs() -> None:
    one = alone(1, **{KEY: b"1" * 3_000, OTHER_KEY: b"2" * 3_000})
    one.pass_to(6.0, observed(7))
    two = Gateway(2)
    two.at = 6.0

    assert two.ask(one, 5_000)
    assert two.runs.followed[0][1] == ["11111111"]
    two.runs.lacking = [OTHER_KEY]
    assert not two.ask(one, 5_000)
    assert two.runs.followed[1][1] == ["22222222"]


def test_batches_that_do_not_fit_come_with_the_next_answers_the_oldest_first() -> None:
    one, two = alone(1), Gateway(2)
    two.ask(one)
    two.fleet.start(two.moment())
    many = observed(*range(0, 90_000, 97))
    for at in range(0, 60, 5):
        one.pass_to(at, many)
    size = len(encode_batch(Batch("0" * 16, 0, many)))
    two.at = one.at

    answers = 1
    while two.ask(one, 3 * size):
        answers += 1
    two.pass_to(one.at)

    assert 3 <= answers <= 12
    assert two.fleet.have().held[one.process] == one.moment().cell - 1


def test_what_both_have_costs_a_few_hundred_bytes() -> None:
    one, two = alone(1), Gateway(2)
    two.ask(one)
    two.fleet.start(two.moment())
    for step in range(2, 60, 2):
        one.pass_to(step, observed(*range(0, 90_000, 97)))
        two.pass_to(step)
        two.ask(one)
        one.ask(two)

    assert len(two.evidence.answer(one.evidence.question(), ROOM)) < 1_000
    assert len(one.evidence.question()) < 400


def answered(one: Gateway, **changed: Any) -> bytes:
    """What `one` answers to a gateway that has just begun, with some of its fields changed."""
    answer = msgspec.msgpack.decode(one.evidence.answer(Gateway(2).evidence.question(), ROOM))
    for name, value in changed.items():
        if name in ("batches", "states"):
            answer[("news", "batches", "states").index(name)] = value
        else:
            answer[0][name] = value
    return msgspec.msgpack.encode(answer)


FUTURE = cell_of(START) + 10_000
JOIN = ["a" * 16, "a" * 16, "gw-3", 5]


@pytest.mark.parametrize(
    "changed",
    [
        {"batches": [b"garbage"]},
        {"batches": [encode_batch(Batch("gw-1", 5))]},
        {"batches": [encode_batch(Batch("0" * 16, -1))]},
        {"batches": [encode_batch(Batch("0" * 16, 5, {"key": (1, observed(7)[KEY][1])}))]},
        {"batches": [encode_batch(Batch("0" * 16, 5, observed(100_000)))]},
        {"batches": [encode_batch(Batch("0" * 16, 5, observed(requests=-1)))]},
        {"batches": "text"},
        {"states": [b"garbage"]},
        {"states": [b""] * 1_000},
        {"clock": float("nan")},
        {"clock": "now"},
        {"process": "gw-1"},
        {"held": {"gw-1": 5}},
        {"joins": [["gw-3", "a" * 16, "gw-3", 5]]},
        {"joins": [[*JOIN[:3], -5]]},
        {"joins": [[*JOIN[:2], "gw-3\nforged", 5]]},
        {"joins": [JOIN] * 1_000},
        {"numbers": {"x": 1}},
        {"sealed": [FUTURE, b"short", 0]},
        {"votes": [["a" * 16, 0, {}]]},
        {"running": [["a" * 16, 1, {KEY: [1, [[1, -5, 0]]]}]]},
    ],
    ids=str,
)
def test_an_answer_that_is_not_wholly_valid_changes_nothing(changed: dict[str, Any]) -> None:
    one, two = alone(1), Gateway(2)
    one.pass_to(6.0, observed(7))
    two.at = 6.0
    before = two.fleet.have()

    with pytest.raises(ValueError, match=r".") as refused:
        two.evidence.take(answered(one, **changed), WHERE, two.at)

    assert "gw-" not in str(refused.value), "it quotes what it was sent"
    assert two.fleet.have() == before
    assert two.runs.followed == []


def test_an_answer_that_is_valid_is_taken_by_the_same_way() -> None:
    """Or the cases above showed nothing."""
    one, two = alone(1), Gateway(2)
    one.pass_to(6.0, observed(7))
    two.at = 6.0

    two.evidence.take(answered(one), WHERE, two.at)

    assert len(two.runs.followed) == 1


def test_a_claimed_future_and_batches_of_unknown_members_are_left() -> None:
    one, two = alone(1), Gateway(2)
    one.pass_to(6.0, observed(7))
    two.at = 6.0
    two.ask(one)
    two.fleet.start(two.moment())
    future = [encode_batch(Batch(process, FUTURE, observed(7))) for process in (one.process, "a" * 16)]

    two.evidence.take(answered(one, batches=future), WHERE, two.at)

    assert FUTURE not in two.fleet.have().held.values()
    assert "a" * 16 not in two.fleet.have().held


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"garbage",
        b"\x91" * 10_000,
        msgspec.msgpack.encode({"process": "gw-1", "sealed": None, "held": {}}),
    ],
    ids=["empty", "garbage", "deep", "another id"],
)
def test_a_question_that_is_none_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        alone().evidence.answer(wrong, ROOM)


def test_a_batch_is_read_once_and_handed_on_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fleet of ten each has it from four others, and is asked for it by as many."""
    one, two, three = alone(1), Gateway(2), Gateway(3)
    read: list[Batch] = []
    written: list[Batch] = []

    def reading(packed: bytes) -> Batch:
        read.append(decode_batch(packed))
        return read[-1]

    def writing(batch: Batch) -> bytes:
        written.append(batch)
        return encode_batch(batch)

    for gateway in (two, three):
        gateway.ask(one)
        gateway.fleet.start(gateway.moment())
    monkeypatch.setattr(module, "decode_batch", reading)
    monkeypatch.setattr(module, "encode_batch", writing)
    for at in range(0, 60, 5):
        one.pass_to(at, observed(7))
        two.at = three.at = one.at
        two.ask(one)
        two.ask(one)
        three.ask(two)
        three.ask(one)

    assert len(read) == 2 * len({batch.cell for batch in read}), "once by each of two"
    assert len(written) == len(read) / 2, "and written by whoever observed it alone"
    assert three.fleet.have().held == two.fleet.have().held != {}


def test_batches_that_the_fleet_does_not_take_are_not_kept() -> None:
    """However many a gateway with a bug sends, of cells that are still to come or of unknown members."""
    one, two = alone(1), Gateway(2)
    one.pass_to(6.0, observed(7))
    two.at = 6.0
    two.ask(one)
    two.fleet.start(two.moment())
    present = two.moment().cell
    for turn in range(20):
        cells = FUTURE - turn, present
        sent = [encode_batch(Batch(f"{turn:016x}", cell, observed(7))) for cell in cells]
        two.evidence.take(answered(one, batches=sent), WHERE, two.at)

    held = two.fleet.have().held
    assert {process for process, _ in two.evidence._packed} <= held.keys()


def test_no_more_states_are_written_than_fit() -> None:
    """Each takes a while, in the event loop."""
    states = {f"{number:032x}": bytes(100_000) for number in range(50)}
    one, two = alone(1, **states), Gateway(2)
    written: list[str] = []

    def writing(key: str) -> bytes:
        written.append(key)
        return states[key]

    one.runs.packed = writing  # type: ignore[method-assign]
    two.ask(one)

    assert 10 <= len(written) <= 11
