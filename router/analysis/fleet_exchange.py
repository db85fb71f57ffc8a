"""What gateways of one fleet ask and answer about evidence, as bytes: batches, and states of runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Generic, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from router.analysis.evidence_format import decode_batch, encode_batch
from router.analysis.fleet import Fleet, Taken
from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_messages import MOST_RUNS, Have, MessageRefused, News
from router.analysis.statistics.records import Batch

State = TypeVar("State")


class RunStates(Protocol[State]):
    """The states of all runs of this gateway, and what follows from the answers of others."""

    def wanted(self) -> Sequence[str]:
        """Keys of runs whose states have not come yet, after those of another gateway became this one's."""

    def keys(self) -> Sequence[str]:
        """Of all runs, those first that matter most."""

    def packed(self, key: str) -> bytes | None:
        """The state of the run, and what it is about, for another gateway; None where nothing is known."""

    def unpacked(self, packed: bytes) -> State:
        """What `packed` of another gateway gave. Raises ValueError, with a sentence."""

    def follow(self, taken: Taken, states: Sequence[State]) -> None:
        """Act on what an answer changed: move the clock, take over states, open and reset breakers."""


class _Answer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    news: News
    """Without batches."""
    batches: list[bytes]
    states: Annotated[list[bytes], Meta(max_length=MOST_RUNS)]
    whole: bool
    """Whether it holds all that the asker lacks."""


class _BatchHead(Struct, frozen=True, array_like=True):
    """Of a packed batch: which it is."""

    process: str
    cell: int


class FleetEvidence(Generic[State]):
    """Implements `control.exchange_messages.EvidenceExchange` by a fleet and the runs of one gateway.

    Each gateway has most batches from several others, and hands them out to several: they are read and
    written once.
    """

    def __init__(self, fleet: Fleet, runs: RunStates[State], now: Callable[[], Moment]) -> None:
        self._fleet = fleet
        self._runs = runs
        self._now = now
        self._packed: dict[tuple[str, int], tuple[Batch, bytes]] = {}
        """Batches that the fleet holds, by process and cell, as they were written or read."""

    def question(self) -> bytes:
        """What this gateway has."""
        return msgspec.msgpack.encode(self._fleet.have(self._runs.wanted()))

    def answer(self, question: bytes, limit: int) -> bytes:
        """What whoever asks lacks, as much as fits into `limit` bytes. Raises MessageRefused."""
        have = _decoded(question, Have)
        news = self._fleet.answer(have, self._now())
        wanted = self._runs.keys() if news.state is not None else have.lacks
        # Written one by one, for each takes a while: no more of them than fit.
        states = (packed for key in wanted if (packed := self._runs.packed(key)) is not None)
        batches, news.batches = news.batches, []
        room = limit - len(msgspec.msgpack.encode(_Answer(news, [], [], whole=True))) - 2 * _HEAD
        some_states, room, all_states = _that_fit(states, room)
        some_batches, room, all_batches = _that_fit(map(self._pack, batches), room)
        answer = _Answer(news, some_batches, some_states, all_states and all_batches)
        return msgspec.msgpack.encode(answer)

    def take(self, answer: bytes, peer: str, asked_at: float) -> bool:
        """Take over what `peer` answered, whole or not at all. Raises ValueError, with a sentence."""
        read = _decoded(answer, _Answer)
        if read.news.batches:
            raise MessageRefused("it has batches in a place where there are none")
        # What goes with a state replaces what is here; else only what is new is of use.
        held = {} if read.news.state is not None else self._fleet.have().held
        read.news.batches = [self._unpack(packed) for packed in read.batches if _is_new(packed, held)]
        states = [self._runs.unpacked(packed) for packed in read.states]
        now = self._now()
        asked = Moment(asked_at, now.clock - (now.monotonic - asked_at))
        self._runs.follow(self._fleet.take(read.news, asked, now), states)
        self._forget()
        return not read.whole

    def _pack(self, batch: Batch) -> bytes:
        known = self._packed.get((batch.process, batch.cell))
        if known is not None and known[0] is batch:
            return known[1]
        return self._keep(batch, encode_batch(batch))

    def _unpack(self, packed: bytes) -> Batch:
        batch = decode_batch(packed)
        self._keep(batch, packed)
        return batch

    def _keep(self, batch: Batch, packed: bytes) -> bytes:
        self._packed[batch.process, batch.cell] = batch, packed
        return packed

    def _forget(self) -> None:
        """Whatever the fleet did not take, or holds no more."""
        held = self._fleet.batch
        self._packed = {place: one for place, one in self._packed.items() if held(*place) is one[0]}


_HEAD = 5
"""Bytes before a list or a part in msgpack, at most."""

Message = TypeVar("Message", Have, _Answer)


def _decoded(raw: bytes, kind: type[Message]) -> Message:
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageRefused(f"it is no message of evidence: {str(error)[:200]}") from None


def _is_new(packed: bytes, held: Mapping[str, int]) -> bool:
    """Whether this batch is of a later cell than the newest here of its process."""
    try:
        head = msgspec.msgpack.decode(packed, type=_BatchHead)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MessageRefused("a batch in it is no batch") from None
    newest = held.get(head.process)
    return newest is None or head.cell > newest


def _that_fit(parts: Iterable[bytes], room: int) -> tuple[list[bytes], int, bool]:
    """The first of `parts`, as many as fit into `room` bytes; how much is left of it, and whether these are
    all."""
    fitting: list[bytes] = []
    for part in parts:
        room -= len(part) + _HEAD
        if room < 0:
            return fitting, 0, False
        fitting.append(part)
    return fitting, room, True
