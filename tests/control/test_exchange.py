"""The exchange of a fleet: who is asked, and what of their answers counts."""

import asyncio
import random
import zlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.exchange import (
    ASKED_AT_ONCE,
    FIRST_SECONDS,
    SELF_SECONDS,
    STILL_ASKED_SECONDS,
    FleetExchange,
    Peer,
    PeerCaps,
)
from router.control.exchange_messages import ExchangeMessages, NoEvidence
from router.core.caps import CapRecord, Caps, CapTarget, records_to_json
from router.core.ids import CANARY, GatewayId
from router.core.outbound_events import PeerFound, PeerLost
from router.errors import ExchangeUnknown, OutboundFailed
from router.settings import FleetSettings
from tests.serving.virtual_time import run
from tests.support.fakes import Facts

OWN = "0" * 16
ON_V8 = CapTarget("sentiment", CANARY, 8)
BY_ALICE = {ON_V8: CapRecord(1, 0, "alice", "bad", 1e9)}


class Known:
    """The caps of one gateway."""

    def __init__(self) -> None:
        self.caps = Caps()

    @property
    def known(self) -> Caps:
        return self.caps

    def merge(self, records: Mapping[CapTarget, CapRecord], *, only_lower: bool = False) -> None:
        if only_lower:
            records = {target: record for target, record in records.items() if record.share is not None}
        self.caps = self.caps.merged(records)


class Evidence(NoEvidence):
    """A peer's is texts, of which each answer holds one."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def question(self) -> bytes:
        return b"%d" % len(self.texts)

    def take(self, answer: bytes, peer: str, asked_at: float) -> bool:
        if answer == b"garbage":
            raise ValueError("it is garbage")
        if answer:
            self.texts.append(answer)
        return answer.endswith(b"more")


class Network:
    """Other gateways by address, and a name for some of them."""

    def __init__(self, **answers: PeerCaps) -> None:
        self.answers: dict[str, PeerCaps | str | list[bytes]] = dict(answers)
        """A text is why there is none; a list is evidence, part by part."""
        self.former: set[str] = set()
        """Those that exchange caps only."""
        self.asked: list[Peer] = []
        self.asked_for_caps: list[str] = []
        self.silent: set[str] = set()
        self.addresses: list[str] | str = []
        """Of any name; a text is why there are none."""

    async def exchange(self, peer: Peer, question: bytes) -> bytes:
        self.asked.append(peer)
        where = peer.address.partition("://")[2]
        if where in self.silent:
            await asyncio.sleep(2.0)
            raise OutboundFailed("no answer within 2 s")
        if where in self.former:
            raise ExchangeUnknown("it answered 404 Not Found")
        answer = self.answers.get(where, "it can not be reached: Connection refused")
        if isinstance(answer, str):
            raise OutboundFailed(answer)
        if isinstance(answer, PeerCaps):
            gateway, records, evidence = answer.gateway, answer.records, b""
        else:
            number = int(msgspec.msgpack.decode(zlib.decompress(question))["evidence"])
            gateway, records, evidence = "9" * 16, {}, answer[number]
        caps = records_to_json(Caps(records))["records"]
        fields = {"gateway": gateway, "caps": caps, "evidence": evidence, "format": 1}
        return zlib.compress(msgspec.msgpack.encode(fields))

    async def caps(self, peer: Peer) -> PeerCaps:
        where = peer.address.partition("://")[2]
        self.asked_for_caps.append(where)
        answer = self.answers[where]
        assert isinstance(answer, PeerCaps)
        return answer

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        if isinstance(self.addresses, str):
            raise OutboundFailed(self.addresses)
        return [f"{address}:{port}" for address in self.addresses]

    def asked_at(self) -> list[str]:
        asked, self.asked = self.asked, []
        return sorted(peer.address.partition("://")[2] for peer in asked)


class Exchange:
    """One, in front of a network."""

    def __init__(self, *peers: str, network: Network | None = None, encrypted: bool = False) -> None:
        self.network = network or Network()
        self.known, self.evidence, self.facts = Known(), Evidence(), Facts()
        messages = ExchangeMessages(GatewayId(OWN, "gw-0"), self.known, self.evidence, lambda: 0.0)
        fleet = FleetSettings(peers=list(peers))
        self.exchange = FleetExchange(fleet, self.network, messages, self.facts, encrypted=encrypted)

    @property
    def peers(self) -> dict[str, Any]:
        return {peer["address"]: peer for peer in self.exchange.describe()["peers"]}


def gateway(name: int, records: Mapping[CapTarget, CapRecord] | None = None) -> PeerCaps:
    return PeerCaps(f"{name:016x}", records or {})


def test_what_a_peer_knows_holds_here() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81", "gw-2:81")
        one.network.answers = {"gw-1:81": gateway(1, BY_ALICE), "gw-2:81": gateway(2)}
        await one.exchange.tick()
        assert one.known.caps.records == BY_ALICE
        assert one.exchange.reachable() == {"reachable": 2, "unreachable": 0}
        await asyncio.sleep(3)
        assert one.peers["http://gw-1:81"] == {
            "address": "http://gw-1:81",
            "last_seen_seconds": 3.0,
            "exchanges": "evidence",
            "error": "",
        }

    run(story())


def test_a_peer_that_does_not_answer_is_named_and_logged_once_down_and_once_up() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81")
        for _ in range(3):
            await one.exchange.tick()
        assert one.facts.events == [PeerLost("http://gw-1:81", "it can not be reached: Connection refused")]
        assert one.peers["http://gw-1:81"]["last_seen_seconds"] is None
        assert one.peers["http://gw-1:81"]["error"] == "it can not be reached: Connection refused"
        assert one.exchange.reachable() == {"reachable": 0, "unreachable": 1}
        (warning,) = one.exchange.warnings()
        assert warning.startswith("the gateway at http://gw-1:81 does not answer, so its caps and")
        one.network.answers["gw-1:81"] = gateway(1)
        for _ in range(3):
            await one.exchange.tick()
        assert one.facts.events[1:] == [PeerFound("http://gw-1:81")]
        assert one.exchange.reachable() == {"reachable": 1, "unreachable": 0}
        assert one.exchange.warnings() == []

    run(story())


def test_a_peer_whose_answer_breaks_the_reading_of_it_keeps_no_other_from_being_asked() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81", "gw-2:81")
        one.network.answers["gw-2:81"] = gateway(2, BY_ALICE)
        asked = one.network.exchange

        async def breaking(peer: Peer, question: bytes) -> bytes:
            if peer.address == "http://gw-1:81":
                raise RuntimeError("secret")
            await asyncio.sleep(0.5)
            return await asked(peer, question)

        one.network.exchange = breaking  # type: ignore[method-assign]
        await one.exchange.tick()
        assert one.known.caps.records == BY_ALICE
        assert one.peers["http://gw-1:81"]["error"] == "its answer could not be read: RuntimeError"

    run(story())


def test_a_peer_that_hangs_delays_no_other_and_is_asked_once_at_a_time() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81", "gw-2:81")
        one.network.answers["gw-2:81"] = gateway(2, BY_ALICE)
        one.network.silent.add("gw-1:81")
        tick = asyncio.create_task(one.exchange.tick())
        await asyncio.sleep(0.1)
        assert one.known.caps.records == BY_ALICE
        assert not tick.done()
        await tick
        assert one.network.asked_at() == ["gw-1:81", "gw-2:81"]

    run(story())


def test_four_peers_are_asked_each_time_and_in_time_all() -> None:
    async def story() -> None:
        addresses = [f"gw-{number}:81" for number in range(50)]
        one = Exchange(*addresses)
        one.network.answers = {address: gateway(n + 1) for n, address in enumerate(addresses)}
        asked: set[str] = set()
        for _ in range(150):
            await one.exchange.tick()
            at_once = one.network.asked_at()
            assert len({*at_once}) == len(at_once) == ASKED_AT_ONCE
            asked |= {*at_once}
        assert asked == {*addresses}  # one is never drawn in 4 of a million such runs

    random.seed(7)
    run(story())


def test_a_gateway_among_its_own_peers_leaves_itself_out_and_asks_again_later() -> None:
    """Behind a balancer's address there is another one the next time."""

    async def story() -> None:
        one = Exchange("gw-0:81", "gw-1:81")
        one.network.answers = {"gw-0:81": PeerCaps(OWN, BY_ALICE), "gw-1:81": gateway(1)}
        await one.exchange.tick()
        assert one.network.asked_at() == ["gw-0:81", "gw-1:81"]
        await one.exchange.tick()
        assert one.network.asked_at() == ["gw-1:81"]
        assert [*one.peers] == ["http://gw-1:81"]
        assert one.exchange.reachable() == {"reachable": 1, "unreachable": 0}
        await asyncio.sleep(SELF_SECONDS)
        one.network.answers["gw-0:81"] = gateway(2, BY_ALICE)
        await one.exchange.tick()
        assert one.known.caps.records == BY_ALICE

    run(story())


def test_the_addresses_of_a_name_are_peers_and_one_that_vanished_is_asked_for_a_minute_more() -> None:
    """A pod that ends may know what nobody else knows yet."""

    async def story() -> None:
        one = Exchange("dns:canary-router:81")
        one.network.answers = {f"10.0.0.{number}:81": gateway(number) for number in (1, 2, 3)}
        one.network.addresses = ["10.0.0.1", "10.0.0.2"]
        await one.exchange.look_up()
        await one.exchange.tick()
        assert one.network.asked_at() == ["10.0.0.1:81", "10.0.0.2:81"]
        one.network.addresses = ["10.0.0.2", "10.0.0.3"]
        await one.exchange.look_up()
        await asyncio.sleep(STILL_ASKED_SECONDS - 1)
        one.network.answers["10.0.0.1:81"] = "it can not be reached: No route to host"
        await one.exchange.tick()
        assert one.network.asked_at() == ["10.0.0.1:81", "10.0.0.2:81", "10.0.0.3:81"]
        assert one.facts.events == [], "that it is gone is no news"
        await asyncio.sleep(1)
        await one.exchange.tick()
        assert one.network.asked_at() == ["10.0.0.2:81", "10.0.0.3:81"]

    run(story())


def test_an_address_that_comes_back_to_its_name_is_no_longer_about_to_go() -> None:
    async def story() -> None:
        one = Exchange("dns:canary-router:81")
        for addresses in (["10.0.0.1"], [], ["10.0.0.1"]):
            one.network.addresses = addresses
            await one.exchange.look_up()
        await asyncio.sleep(2 * STILL_ASKED_SECONDS)
        await one.exchange.tick()
        assert one.network.asked_at() == ["10.0.0.1:81"]

    run(story())


def test_where_a_look_up_fails_those_known_before_are_asked_on() -> None:
    async def story() -> None:
        one = Exchange("dns:canary-router:81")
        one.network.answers["10.0.0.1:81"] = gateway(1)
        one.network.addresses = ["10.0.0.1"]
        await one.exchange.look_up()
        one.network.addresses = "its name could not be looked up: Try again"
        for _ in range(12):
            await one.exchange.look_up()
            await asyncio.sleep(10)
        await one.exchange.tick()
        assert one.network.asked_at() == ["10.0.0.1:81"]
        assert one.exchange.describe()["look_up_error"] == "its name could not be looked up: Try again"
        assert "not found by dns:canary-router:81: its name could not" in one.exchange.warnings()[0]
        one.network.addresses = ["10.0.0.1"]
        await one.exchange.look_up()
        named = "dns:canary-router:81"
        assert one.facts.events == [
            PeerLost(named, "its name could not be looked up: Try again"),
            PeerFound(named),
        ]
        assert one.exchange.describe()["look_up_error"] == ""

    run(story())


def test_with_tls_the_name_is_checked_and_not_the_address_that_it_has() -> None:
    async def story() -> None:
        one = Exchange("dns:gateways.example.com:81", encrypted=True)
        one.network.addresses = ["10.0.0.1"]
        await one.exchange.look_up()
        await one.exchange.tick()
        assert one.network.asked == [Peer("https://10.0.0.1:81", "gateways.example.com")]
        two = Exchange("gw-1:81", "http://gw-2:82/", "https://gw-3", "[fd00::1]:84", encrypted=True)
        await two.exchange.tick()
        assert {*two.network.asked} == {
            Peer("https://gw-1:81"),
            Peer("http://gw-2:82"),
            Peer("https://gw-3:443"),
            Peer("https://[fd00::1]:84"),
        }

    run(story())


def test_a_start_waits_for_what_peers_know_and_for_two_seconds_at_most() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81", "gw-2:81")
        one.network.answers["gw-2:81"] = gateway(2, BY_ALICE)
        one.network.silent.add("gw-1:81")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await one.exchange.first()
        assert loop.time() - began <= FIRST_SECONDS + 0.001
        assert one.known.caps.records == BY_ALICE

    run(story())


def test_a_start_asks_until_peers_have_no_more_and_later_exchanges_ask_once() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81")
        one.network.answers["gw-1:81"] = [b"1 and more", b"2 and more", b"3", b"4 and more", b"5"]
        await one.exchange.first()
        assert one.evidence.texts == [b"1 and more", b"2 and more", b"3"]
        await one.exchange.tick()
        assert one.evidence.texts[3:] == [b"4 and more"]

    run(story())


def test_a_peer_that_always_has_more_holds_a_start_for_two_seconds_and_no_other_peer() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81", "gw-2:81")
        one.network.answers["gw-1:81"] = [b"more"] * 1_000_000
        one.network.answers["gw-2:81"] = gateway(2, BY_ALICE)
        at_once = one.network.exchange

        async def in_a_while(peer: Peer, question: bytes) -> bytes:
            await asyncio.sleep(0.01)
            return await at_once(peer, question)

        one.network.exchange = in_a_while  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        began = loop.time()
        await one.exchange.first()
        assert loop.time() - began <= FIRST_SECONDS + 0.001
        assert one.known.caps.records == BY_ALICE

    run(story())


def test_a_peer_whose_evidence_is_not_valid_is_named_and_its_caps_hold() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81")
        one.network.answers["gw-1:81"] = [b"garbage", b"good"]
        for _ in range(2):
            await one.exchange.tick()
        error = "its evidence is not valid: it is garbage"
        assert one.facts.events == [PeerLost("http://gw-1:81", error)]
        assert one.peers["http://gw-1:81"]["error"] == error
        assert one.peers["http://gw-1:81"]["last_seen_seconds"] == 0
        assert one.exchange.warnings() == [
            f"the gateway at http://gw-1:81 answers, and not all of it counts: {error}"
        ]
        one.network.answers["gw-1:81"] = [b"good"]
        await one.exchange.tick()
        assert one.facts.events[1:] == [PeerFound("http://gw-1:81")]
        assert one.exchange.warnings() == []

    run(story())


def test_an_answer_that_is_none_is_named_as_such_and_not_quoted() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81")

        async def garbage(peer: Peer, question: bytes) -> bytes:
            return b"secret"

        one.network.exchange = garbage  # type: ignore[method-assign]
        await one.exchange.tick()
        error = "its answer is not that of a gateway: it is not packed as it should be"
        assert one.peers["http://gw-1:81"]["error"] == error
        assert one.peers["http://gw-1:81"]["exchanges"] is None

    run(story())


def test_of_a_gateway_of_a_former_version_what_lowers_is_taken_and_it_is_named() -> None:
    """Nothing of it is signed: whoever answers there must not be able to lift a cap."""

    async def story() -> None:
        lifted = {ON_V8: CapRecord(2, None, "mallory", "trust me", 2e9)}
        one = Exchange("gw-1:81")
        one.network.former.add("gw-1:81")
        one.network.answers["gw-1:81"] = gateway(1, BY_ALICE)
        await one.exchange.tick()
        assert one.known.caps.records == BY_ALICE
        one.network.answers["gw-1:81"] = gateway(1, lifted)
        await one.exchange.tick()
        assert one.known.caps.records == BY_ALICE
        assert one.peers["http://gw-1:81"]["exchanges"] == "caps"
        assert one.exchange.reachable() == {"reachable": 1, "unreachable": 0}
        (warning,) = one.exchange.warnings()
        assert warning.startswith("the gateway at http://gw-1:81 is of a former version: its evidence")
        one.network.former.clear()
        await one.exchange.tick()
        assert one.known.caps.records == lifted
        assert one.peers["http://gw-1:81"]["exchanges"] == "evidence"
        assert one.exchange.warnings() == []

    run(story())


def test_a_gateway_that_signed_once_is_not_asked_for_what_is_not_signed() -> None:
    async def story() -> None:
        one = Exchange("gw-1:81")
        one.network.answers["gw-1:81"] = gateway(1)
        await one.exchange.tick()
        one.network.answers["gw-1:81"] = gateway(1, BY_ALICE)
        one.network.former.add("gw-1:81")
        await one.exchange.tick()
        assert one.network.asked_for_caps == []
        assert one.known.caps.records == {}
        assert one.peers["http://gw-1:81"]["error"] == "it answered 404 Not Found"

    run(story())


# Gateways among themselves

targets = st.sampled_from([ON_V8, CapTarget("sentiment", CANARY), CapTarget("churn", CANARY, 3)])
actions = st.lists(
    st.tuples(st.integers(0, 2), targets, st.one_of(st.none(), st.integers(0, 50_000))), max_size=12
)


@settings(max_examples=50)
@given(actions, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12), st.randoms())
def test_whatever_is_capped_and_resumed_where_in_the_end_all_know_the_same(
    acts: list[tuple[int, CapTarget, int | None]], met: list[tuple[int, int]], chance: random.Random
) -> None:
    """Three gateways that meet now and then, and at last each the others: cut or not."""

    async def story() -> None:
        three = [Exchange("gw-0:81", "gw-1:81", "gw-2:81") for _ in range(3)]

        def act(number: int, target: CapTarget, share: int | None) -> None:
            known, said = three[number].known, {"by": "alice", "reason": "so", "at": 1e9}
            if share is None:
                known.caps = known.caps.lifted([target], **said)
            else:
                known.caps = known.caps.capped(target, share, **said)

        async def meet(asker: int, *others: int) -> None:
            one = three[asker]
            one.network.answers = {f"gw-{n}:81": gateway(n + 1, three[n].known.caps.records) for n in others}
            await one.exchange.tick()

        steps: list[Any] = [*acts, *met]
        chance.shuffle(steps)
        for step in steps:
            if len(step) == 3:
                act(*step)
            else:
                await meet(*step)
        for _ in range(2):
            for asker in range(3):
                await meet(asker, *(n for n in range(3) if n != asker))
        for one, other in product(three, three):
            assert one.known.caps == other.known.caps

    run(story())
