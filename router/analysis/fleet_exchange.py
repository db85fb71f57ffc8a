"""What gateways of one fleet ask and answer about evidence, as bytes: batches, and states of runs."""

from collections.abc import Callable, Iterable, Sequence
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


class FleetEvidence(Generic[State]):
    """Implements `control.exchange_messages.EvidenceExchange` by a fleet and the runs of one gateway."""

    def __init__(self, fleet: Fleet, runs: RunStates[State], now: Callable[[], Moment]) -> None:
        self._fleet = fleet
        self._runs = runs
        self._now = now

    def question(self) -> bytes:
        """What this gateway has."""
        return msgspec.msgpack.encode(self._fleet.have(self._runs.wanted()))

    def answer(self, question: bytes, limit: int) -> bytes:
        """What whoever asks lacks, as much as fits into `limit` bytes. Raises MessageRefused."""
        have = _decoded(question, Have)
        news = self._fleet.answer(have, self._now())
        wanted = self._runs.keys() if news.state is not None else have.lacks
        states = [packed for key in wanted if (packed := self._runs.packed(key)) is not None]
        batches = news.batches
        news.batches = []
        room = limit - len(msgspec.msgpack.encode(_Answer(news, [], [], whole=True))) - 2 * _HEAD
        some_states, room, all_states = _that_fit(states, room)
        some_batches, room, all_batches = _that_fit(map(encode_batch, batches), room)
        answer = _Answer(news, some_batches, some_states, all_states and all_batches)
        return msgspec.msgpack.encode(answer)

    def take(self, answer: bytes, peer: str, asked_at: float) -> bool:
        """Take over what `peer` answered, whole or not at all. Raises ValueError, with a sentence."""
        read = _decoded(answer, _Answer)
        if read.news.batches:
            raise MessageRefused("it has batches in a place where there are none")
        batches: list[Batch] = [decode_batch(packed) for packed in read.batches]
        states = [self._runs.unpacked(packed) for packed in read.states]
        read.news.batches = batches
        now = self._now()
        asked = Moment(asked_at, now.clock - (now.monotonic - asked_at))
        self._runs.follow(self._fleet.take(read.news, asked, now), states)
        return not read.whole


_HEAD = 5
"""Bytes before a list or a part in msgpack, at most."""

Message = TypeVar("Message", Have, _Answer)


def _decoded(raw: bytes, kind: type[Message]) -> Message:
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageRefused(f"it is none: {str(error)[:200]}") from None


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
