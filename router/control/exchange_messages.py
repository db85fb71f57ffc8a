"""What gateways of one fleet ask each other and answer: caps and evidence, in one message.

A question says what the asker knows already, and changes nothing at whoever reads it, however often it comes.
The answer holds what the asker lacks; caps and evidence in it count each as a whole or not at all, and one of
them also where the other is not valid: an abort has to hold whatever is wrong with evidence.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from router.core.caps import FORMAT as CAPS_FORMAT
from router.core.caps import MOST_RECORDS, CapRecord, Caps, CapTarget, records_from_json, records_to_json
from router.core.ids import GatewayId
from router.processes.disk import DiskThreads

FORMAT = 1
"""Of both messages."""
MOST_PACKED = 512 << 10
"""Bytes of a message as it is sent, and is read."""
MOST_UNPACKED = 4 << 20
"""Bytes that are read of it once it is unpacked."""
MOST_SENT = 1 << 20
"""Bytes of an answer before it is packed; what else there is comes with the next one."""
_MOST_CAPS_SENT = 128 << 10
"""Of these, for caps."""
_PACK_LEVEL = 1
"""Of zlib's: a higher one takes longer, and saves little of what are mostly small numbers."""
_SMALL = 8 << 10
"""Bytes up to which a message is packed and unpacked in the event loop: at most 15 ms if all of it unpacks to
the largest that is read, and mostly less than another thread costs."""
_FRAME = 1024
"""Bytes of an answer besides its caps and its evidence, at most, with what packing adds where it saves
nothing."""

_in_packing_thread = DiskThreads(1).run

CapFields = dict[str, str | int | float | bool | None]
"""One cap, as `records_to_json` has it."""


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway asks of another one."""

    gateway: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    """Process that asks."""
    caps: Annotated[bytes, Meta(max_length=32)]
    """Digest of the caps that it knows."""
    evidence: bytes
    """See `EvidenceExchange.question`."""
    format: int = FORMAT


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What it answers."""

    gateway: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    """Process that answers."""
    caps: Annotated[list[CapFields], Meta(max_length=MOST_RECORDS)] | None
    """What it knows of caps, as much as fits; None where both know the same."""
    evidence: bytes
    """See `EvidenceExchange.answer`."""
    format: int = FORMAT


class _Head(Struct):
    format: int


class EvidenceExchange(Protocol):
    """The evidence of this gateway, of others too, as far as they sent theirs."""

    def question(self) -> bytes:
        """What this gateway has, for another one to answer what it lacks."""

    def answer(self, question: bytes, limit: int) -> bytes:
        """What whoever asks that `question` lacks, in `limit` bytes at most; changes nothing.

        `limit` is 380 KiB at least: no part of it that can not be divided may be larger. Raises ValueError
        with a sentence where `question` is not valid.
        """

    def take(self, answer: bytes, peer: str, asked_at: float) -> bool:
        """Take over what `peer` answered; returns whether there is more of it than the answer could hold.

        `peer` is its address, for sentences; `asked_at` when the question was made, in seconds of a clock
        that never jumps. Raises ValueError with a sentence where `answer` is not valid; then nothing of it
        counts.
        """


class NoEvidence:
    """Of a gateway that compares nothing."""

    def question(self) -> bytes:
        """Nothing."""
        return b""

    def answer(self, question: bytes, limit: int) -> bytes:
        """Nothing, whatever the question."""
        return b""

    def take(self, answer: bytes, peer: str, asked_at: float) -> bool:
        """Leave it."""
        return False


class SharedCaps(Protocol):
    """Holds the caps of this gateway."""

    @property
    def known(self) -> Caps:
        """All that is known now; the same object as long as nothing changes."""

    def merge(self, records: Mapping[CapTarget, CapRecord], *, only_lower: bool = False) -> object:
        """Take what is news of `records`, in force when this returns.

        `only_lower`: nothing that lifts or raises one.
        """


class Asking(Struct, frozen=True):
    """A question that is on its way."""

    packed: bytes
    at: float
    """When it was made, in seconds of a clock that never jumps."""


class Taken(Struct, frozen=True):
    """What became of an answer."""

    gateway: str
    """Process that answered."""
    has_more: bool = False
    """Whether it has evidence that its answer could not hold."""
    refused: str = ""
    """What of it does not count, and why; empty where all of it does."""


class ExchangeMessages:
    """Writes the questions of a gateway, answers those of others, and takes over what they answer."""

    def __init__(
        self,
        identity: GatewayId,
        caps: SharedCaps,
        evidence: EvidenceExchange,
        monotonic: Callable[[], float],
    ) -> None:
        """`monotonic` gives seconds of a clock that never jumps."""
        self.gateway = identity.process
        self._caps = caps
        self._evidence = evidence
        self._monotonic = monotonic
        self._digested: tuple[Caps, bytes] | None = None
        self._askers: set[str] | None = None
        """Other gateways that were answered, since somebody waits for that."""
        self._answered = asyncio.Event()

    async def question(self) -> Asking:
        """What to ask of others now."""
        at = self._monotonic()
        asked = Question(self.gateway, self._caps_digest(), self._evidence.question())
        return Asking(await _packed(msgspec.msgpack.encode(asked)), at)

    async def answer(self, packed: bytes) -> bytes:
        """What is answered to a packed question, packed too. Raises ValueError, with a sentence."""
        asked = _decoded(await _unpacked(packed), Question)
        if asked.gateway == self.gateway:  # one address of its own list, or of a balancer
            return await _packed(msgspec.msgpack.encode(Answer(self.gateway, None, b"")))
        caps = None if asked.caps == self._caps_digest() else _caps_that_fit(self._caps.known)
        used = _FRAME + (len(msgspec.msgpack.encode(caps)) if caps else 0)
        raw = await self._answer_in(MOST_SENT - used, caps, asked)
        if len(raw) > MOST_PACKED:  # it packs badly: as much as certainly fits
            raw = await self._answer_in(MOST_PACKED - used, caps, asked)
        if self._askers is not None:
            self._askers.add(asked.gateway)
            self._answered.set()
        return raw

    async def asked_by(self, others: int) -> None:
        """Return when so many other gateways have asked from now on. One call at a time."""
        askers = self._askers = set[str]()
        try:
            while len(askers) < others:
                self._answered.clear()
                await self._answered.wait()
        finally:
            self._askers = None

    async def _answer_in(self, room: int, caps: list[CapFields] | None, asked: Question) -> bytes:
        evidence = self._evidence.answer(asked.evidence, room)
        return await _packed(msgspec.msgpack.encode(Answer(self.gateway, caps, evidence)))

    async def take(self, packed: bytes, asking: Asking, peer: str) -> Taken:
        """Take over what the gateway at `peer` answered to `asking`. Raises ValueError, with a sentence,
        where it is no answer at all."""
        answer = _decoded(await _unpacked(packed), Answer)
        if answer.gateway == self.gateway:
            return Taken(answer.gateway)
        refused, has_more = [], False
        try:
            if answer.caps is not None:
                self._caps.merge(records_from_json({"format": CAPS_FORMAT, "records": answer.caps}))
        except ValueError as error:
            refused.append(f"its caps are not valid: {error}")
        try:
            has_more = self._evidence.take(answer.evidence, peer, asking.at)
        except ValueError as error:
            refused.append(f"its evidence is not valid: {error}")
        return Taken(answer.gateway, has_more, "; ".join(refused))

    def take_caps(self, records: Mapping[CapTarget, CapRecord]) -> None:
        """Take over what was not signed: only what lowers, since anybody may have written it."""
        self._caps.merge(records, only_lower=True)

    def _caps_digest(self) -> bytes:
        known = self._caps.known
        if self._digested is None or self._digested[0] is not known:
            self._digested = known, caps_digest(known)
        return self._digested[1]


def caps_digest(caps: Caps) -> bytes:
    """32 bytes, equal where two gateways know the same of caps."""
    records = sorted(msgspec.msgpack.encode(record) for record in _fields(caps))
    return sha256(msgspec.msgpack.encode(records)).digest()


def _fields(caps: Caps) -> list[CapFields]:
    records: list[CapFields] = records_to_json(caps)["records"]
    return records


def _caps_that_fit(caps: Caps) -> list[CapFields]:
    """All of them; where these are too many, the newest in one half of the room, and others in the other one,
    by chance: in the end each is sent, and what is new at once."""
    records = _fields(caps)
    sizes = [len(msgspec.msgpack.encode(record)) for record in records]
    if sum(sizes) <= _MOST_CAPS_SENT:
        return records
    newest = sorted(range(len(records)), key=lambda one: float(records[one]["timestamp"] or 0), reverse=True)
    first = _that_fit(newest, sizes, _MOST_CAPS_SENT // 2)
    others = newest[len(first) :]
    random.shuffle(others)
    return [records[one] for one in (*first, *_that_fit(others, sizes, _MOST_CAPS_SENT // 2))]


def _that_fit(numbers: Sequence[int], sizes: Sequence[int], most_bytes: int) -> Sequence[int]:
    """The first of `numbers`, as many as are of `most_bytes` in all."""
    total = 0
    for count, number in enumerate(numbers):
        total += sizes[number]
        if total > most_bytes:
            return numbers[:count]
    return numbers


Message = TypeVar("Message", Question, Answer)


def _decoded(raw: bytes, kind: type[Message]) -> Message:
    try:
        written_in = msgspec.msgpack.decode(raw, type=_Head).format
        if written_in != FORMAT:
            raise ValueError(f"it is in format {written_in}, and this gateway reads format {FORMAT}")
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is not valid: {str(error)[:200]}") from None


async def _packed(raw: bytes) -> bytes:
    if len(raw) <= _SMALL:
        return zlib.compress(raw, _PACK_LEVEL)
    return await _in_packing_thread(zlib.compress, raw, _PACK_LEVEL)


async def _unpacked(packed: bytes) -> bytes:
    """Raises ValueError where it is none, or larger than is read."""
    if len(packed) > MOST_PACKED:
        raise ValueError(f"it is larger than {MOST_PACKED >> 10} KiB")
    return unpack(packed) if len(packed) <= _SMALL else await _in_packing_thread(unpack, packed)


def unpack(packed: bytes) -> bytes:
    """What zlib packed, of 4 MiB at most. Raises ValueError, with a sentence."""
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed, MOST_UNPACKED)
        # At the limit the end may still be to come, without a further byte.
        more = b"" if unpacker.eof else unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error:
        raise ValueError("it is not packed as it should be") from None
    if more:
        raise ValueError(f"it unpacks to more than {MOST_UNPACKED >> 20} MiB")
    if not unpacker.eof:
        raise ValueError("it is cut off")
    if unpacker.unused_data:
        raise ValueError("something follows its end")
    return raw
