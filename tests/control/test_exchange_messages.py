"""Questions and answers among gateways: what is sent, what of it counts, and how much there may be."""

import asyncio
import random
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from router.control.exchange_messages import (
    FORMAT,
    MOST_PACKED,
    MOST_SENT,
    MOST_UNPACKED,
    Asking,
    ExchangeMessages,
    NoEvidence,
    Taken,
    caps_digest,
    unpack,
)
from router.core.caps import MOST_RECORDS, CapRecord, Caps, CapTarget
from router.core.ids import CANARY, GatewayId

ON_V8, ON_ALL = CapTarget("sentiment", CANARY, 8), CapTarget("sentiment", CANARY)
CAPPED = CapRecord(3, 2_500, "alice", "bad", 1e9)
LIFTED = CapRecord(4, None, "bob", "good", 1e9)
ONE, OTHER = GatewayId("0" * 15 + "1", "gw-1"), GatewayId("0" * 15 + "2", "gw-2")
WHERE = "http://gw-2:81"
ASKING = Asking(b"", 7.0)


class KnownCaps:
    """The caps of one gateway."""

    def __init__(self, records: Mapping[CapTarget, CapRecord] | None = None) -> None:
        self.known = Caps(records or {})

    def merge(self, records: Mapping[CapTarget, CapRecord], *, only_lower: bool = False) -> None:
        if only_lower:
            records = {target: record for target, record in records.items() if record.share is not None}
        self.known = self.known.merged(records)


class Evidence:
    """What one gateway has is a set of texts; a question names them, an answer has the others that fit."""

    def __init__(self, *texts: bytes) -> None:
        self.texts = {*texts}
        self.limits: list[int] = []
        self.peers: list[tuple[str, float]] = []

    def question(self) -> bytes:
        return msgspec.msgpack.encode(sorted(text[:8] for text in self.texts))

    def answer(self, question: bytes, limit: int) -> bytes:
        self.limits.append(limit)
        try:
            known = msgspec.msgpack.decode(question, type=list[bytes])
        except msgspec.DecodeError as error:
            raise ValueError(f"its evidence: {error}") from None
        lacking = sorted(text for text in self.texts if text[:8] not in known)
        fitting = [text for n, text in enumerate(lacking) if sum(map(len, lacking[: n + 1])) < limit - 100]
        return msgspec.msgpack.encode([fitting, len(fitting) < len(lacking)])

    def take(self, answer: bytes, peer: str, asked_at: float) -> bool:
        self.peers.append((peer, asked_at))
        try:
            texts, more = msgspec.msgpack.decode(answer, type=tuple[list[bytes], bool])
        except msgspec.DecodeError:
            raise ValueError("it is garbage") from None
        self.texts |= {*texts}
        return more


def gateway(
    identity: GatewayId = ONE,
    evidence: Evidence | NoEvidence | None = None,
    records: Mapping[CapTarget, CapRecord] | None = None,
) -> tuple[ExchangeMessages, KnownCaps]:
    caps = KnownCaps(records)
    return ExchangeMessages(identity, caps, evidence or NoEvidence(), lambda: 7.0), caps


def packed(**fields: Any) -> bytes:
    """An answer of the other gateway with these fields."""
    document = {"gateway": OTHER.process, "caps": None, "evidence": b"", "format": FORMAT, **fields}
    return zlib.compress(msgspec.msgpack.encode(document))


def cap(**fields: Any) -> dict[str, Any]:
    return {
        "model": "sentiment",
        "alias": "canary",
        "version": 8,
        "counter": 3,
        "to_percent": 0.0,
        "by": "alice",
        "reason": "bad",
        "timestamp": 1e9,
        "alert": "",
        **fields,
    }


async def test_the_asker_has_afterwards_what_the_answerer_knows_and_the_answerer_nothing_new() -> None:
    mine, theirs = Evidence(b"mine"), Evidence(b"theirs", b"of others")
    asker, known = gateway(ONE, mine, {ON_V8: CAPPED})
    answerer, unchanged = gateway(OTHER, theirs, {ON_ALL: LIFTED})

    asking = await asker.question()
    taken = await asker.take(await answerer.answer(asking.packed), asking, WHERE)

    assert taken == Taken(OTHER.process)
    assert known.known.records == {ON_V8: CAPPED, ON_ALL: LIFTED}
    assert mine.texts == {b"mine", b"theirs", b"of others"}
    assert mine.peers == [(WHERE, 7.0)]
    assert unchanged.known.records == {ON_ALL: LIFTED}
    assert theirs.texts == {b"theirs", b"of others"}


async def test_caps_that_both_know_are_not_sent_again() -> None:
    asker, _ = gateway(ONE, None, {ON_V8: CAPPED, ON_ALL: LIFTED})
    answerer, _ = gateway(OTHER, None, {ON_ALL: LIFTED, ON_V8: CAPPED})

    answer = msgspec.msgpack.decode(unpack(await answerer.answer((await asker.question()).packed)))

    assert answer["caps"] is None
    assert caps_digest(Caps({ON_V8: CAPPED})) != caps_digest(Caps({ON_V8: LIFTED})) != caps_digest(Caps())


async def test_a_gateway_that_asks_itself_learns_that_it_is_it_and_nothing_else() -> None:
    evidence = Evidence(b"mine")
    asker, _ = gateway(ONE, evidence, {ON_V8: CAPPED})
    same, _ = gateway(ONE, Evidence(b"more"), {ON_ALL: CAPPED})

    taken = await asker.take(await same.answer((await asker.question()).packed), ASKING, WHERE)

    assert taken == Taken(ONE.process)
    assert evidence.peers == []


async def test_caps_count_where_evidence_is_not_valid_and_evidence_where_caps_are_not() -> None:
    """An abort holds whatever is wrong with evidence."""
    evidence = Evidence()
    asker, caps = gateway(ONE, evidence)

    taken = await asker.take(packed(caps=[cap()], evidence=b"?"), ASKING, WHERE)
    assert taken == Taken(OTHER.process, refused="its evidence is not valid: it is garbage")
    assert [*caps.known.records] == [ON_V8]

    good = msgspec.msgpack.encode([[b"theirs"], False])
    for wrong in ([cap(alias="production")], [cap(), cap()], [cap(counter=0)], [{}]):
        taken = await asker.take(packed(caps=wrong, evidence=good), ASKING, WHERE)
        assert taken.refused.startswith("its caps are not valid: records[")
        assert evidence.texts == {b"theirs"}
        evidence.texts.clear()
    assert len(caps.known.records) == 1


WRONG: dict[str, bytes] = {
    "empty": b"",
    "garbage": random.Random(7).randbytes(2_000),
    "not packed": msgspec.msgpack.encode({"format": 1}),
    "cut off": packed()[:-5],
    "with something after it": packed() + b"more",
    "another format": packed(format=2),
    "no format": zlib.compress(msgspec.msgpack.encode({"gateway": OTHER.process})),
    "an unknown field": packed(more=1),
    "no object": zlib.compress(msgspec.msgpack.encode([1, 2])),
    "another id": packed(gateway="gw-1"),
    "evidence as text": packed(evidence="text"),
    "caps as text": packed(caps="text"),
    "a cap as text": packed(caps=["text"]),
    "a deep cap": packed(caps=[{"model": [[[]]]}]),
    "too many caps": packed(caps=[{}] * (MOST_RECORDS + 1)),
    "deep": zlib.compress(b"\x91" * 1_000_000),
    "a zip bomb": zlib.compress(b"\0" * (32 << 20), 9),
    "a zip bomb that says what it is": packed(evidence=b"\0" * (32 << 20)),
    "too large": random.Random(7).randbytes(MOST_PACKED + 1),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_what_is_not_valid_changes_nothing_and_is_not_quoted(wrong: bytes) -> None:
    evidence = Evidence()
    one, caps = gateway(ONE, evidence)

    with pytest.raises(ValueError, match=r"^(it|something) ") as refused:
        await one.take(wrong, ASKING, WHERE)
    with pytest.raises(ValueError, match=r"^(it|something) "):
        await one.answer(wrong)

    assert len(str(refused.value)) < 250
    assert (caps.known.records, evidence.texts, evidence.peers) == ({}, set(), [])


def test_what_unpacks_to_the_most_that_is_read_is_read_and_one_byte_more_is_not() -> None:
    assert len(unpack(zlib.compress(b"x" * MOST_UNPACKED))) == MOST_UNPACKED
    with pytest.raises(ValueError, match="unpacks to more than 4 MiB"):
        unpack(zlib.compress(b"x" * (MOST_UNPACKED + 1)))


@pytest.mark.parametrize("packs_well", [True, False])
async def test_what_does_not_fit_comes_with_the_next_answers(packs_well: bool) -> None:
    dice = random.Random(7)
    texts = [b"%08d" % n + (b"x" * 100_000 if packs_well else dice.randbytes(100_000)) for n in range(30)]
    mine, theirs = Evidence(), Evidence(*texts)
    asker, _ = gateway(ONE, mine)
    answerer, _ = gateway(OTHER, theirs)

    answers = 0
    more = True
    while more:
        answer = await answerer.answer((await asker.question()).packed)
        assert len(answer) <= MOST_PACKED
        before = len(mine.texts)
        more = (await asker.take(answer, ASKING, WHERE)).has_more
        assert len(mine.texts) > before
        answers += 1

    assert mine.texts == theirs.texts
    assert max(theirs.limits) <= MOST_SENT
    assert answers == (3 if packs_well else 6)


async def test_where_caps_are_too_many_for_an_answer_the_newest_come_first_and_all_in_the_end() -> None:
    long = "x" * 490
    records = {
        CapTarget(f"model-{n}", CANARY): CapRecord(1, 0, long, f"{long}{n}", 1e9 + n)
        for n in range(MOST_RECORDS)
    }
    asker, caps = gateway(ONE)
    answerer, _ = gateway(OTHER, None, records)
    random.seed(7)

    async def exchange() -> None:
        answer = await answerer.answer((await asker.question()).packed)
        assert len(unpack(answer)) < MOST_SENT
        await asker.take(answer, ASKING, WHERE)

    await exchange()
    newest = [CapTarget(f"model-{MOST_RECORDS - n}", CANARY) for n in range(1, 20)]
    assert {*newest} <= caps.known.records.keys()
    exchanges = 1
    while len(caps.known.records) < MOST_RECORDS:
        await exchange()
        exchanges += 1
        assert exchanges < 1_000
    assert caps.known.records == records


async def test_who_ends_waits_until_others_have_asked() -> None:
    one, _ = gateway(ONE)
    others = [gateway(GatewayId(f"{n:016x}", f"gw-{n}"))[0] for n in range(2, 5)]
    await one.answer((await others[0].question()).packed)

    waiting = asyncio.ensure_future(one.asked_by(2))
    await asyncio.sleep(0)
    for asker in (others[1], others[1], one):
        await one.answer((await asker.question()).packed)
        await asyncio.sleep(0)
    assert not waiting.done(), "one of them asked, and it twice; the other had asked before"
    await one.answer((await others[2].question()).packed)

    await asyncio.wait_for(waiting, 5)
    await asyncio.wait_for(one.asked_by(0), 5)
