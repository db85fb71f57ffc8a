"""Who is counted, and when a cell is sealed, at one gateway and over networks that lose messages."""

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.fleet import Fleet, SealedCell
from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_messages import (
    Held,
    MemberEnd,
    MessageRefused,
    News,
    RunningCounts,
    SealedAt,
    Vote,
)
from router.analysis.fleet_state import JOIN_AHEAD_CELLS, KEPT_CELLS, first_state
from router.analysis.fleet_view import Absences, LeftOut
from router.analysis.statistics.records import CELL_SECONDS, Batch, Join, RunId
from router.core.ids import GatewayId
from tests.analysis.fleet_network import KEY, START, Gateway, Network, cell_at, horizon, observed, sent

RUN = RunId(KEY, 1)


def a_fleet(*hosts: str, seed: int = 1) -> tuple[Network, list[Gateway]]:
    """Gateways that are all members, on a network that loses nothing."""
    network = Network(seed)
    gateways = [network.start(hosts[0])]
    network.run(10)
    gateways += [network.start(host) for host in hosts[1:]]
    network.run(60)
    assert all(members(gateway) == sorted(hosts) for gateway in gateways)
    return network, gateways


def members(gateway: Gateway) -> list[str]:
    """Hosts that the next cell waits for."""
    state = gateway.fleet.state()
    return [] if state is None else sorted(join.host for join in state.members)


def cells_of(gateway: Gateway, sealed: list[SealedCell]) -> list[int]:
    """In which the gateway's batches count, by what somebody sealed."""
    ids = {member for member, _ in gateway.owned}
    return [one.cell for one in sealed if not ids.isdisjoint(one.batches)]


def agree(network: Network) -> None:
    """Every process sealed the same cells with the same batches in the same order."""
    digests: dict[int, bytes] = {}
    batches: dict[int, dict[str, Batch]] = {}
    for gateway in network.gateways:
        for cell, digest in gateway.digests.items():
            assert digests.setdefault(cell, digest) == digest
        for one in gateway.sealed:
            assert batches.setdefault(one.cell, dict(one.batches)) == one.batches
        assert all(one.cell < other.cell for one, other in pairwise(gateway.sealed))


# A fleet of one


def test_a_gateway_alone_seals_a_cell_as_soon_as_it_is_over() -> None:
    network = Network(1)
    gateway = network.start("gw-1")
    network.run(60)

    assert [one.cell for one in gateway.sealed] == list(range(cell_at(START), cell_at(network.at)))
    assert all(one.runs[RUN] == [observed(20)[KEY][1]] for one in gateway.sealed)


def test_it_goes_on_from_what_its_predecessor_left() -> None:
    """Cells of which the predecessor left batches are sealed first; none of a time in which nobody was."""
    now = Moment(0.0, START)
    fleet = Fleet(GatewayId("b" * 16, "gw-1"), now)
    present = cell_at(START)
    left = [Batch("a" * 16, cell, observed(7)) for cell in range(present - 50, present - 45)]

    fleet.restore(present - 52, 1_000, {KEY: 3})
    fleet.add_ended("a" * 16, "gw-1", left, clean=False, now=now)
    fleet.start(now)
    assert fleet.own(Batch("", present, observed(1, number=3)), now) is not None
    sealed = list(fleet.seal(Moment(5.0, START + 5)))

    assert [one.cell for one in sealed] == [*range(present - 51, present - 45), present]
    assert [one.killed for one in sealed] == [()] * 6 + [("gw-1",)]
    assert [bool(one.runs) for one in sealed] == [False] * 6 + [True]  # the others were of a former number
    state = fleet.state()
    assert state is not None
    assert state.sealed.requests == 1_000 + 5 * 7 + 1


# Joining and leaving


def test_a_gateway_that_joins_counts_from_six_cells_ahead() -> None:
    network = Network(1)
    first = network.start("gw-1")
    network.run(60)
    second = network.start("gw-2")
    network.run(2)
    since = second.fleet.first_cell

    assert since in (cell_at(network.at) + JOIN_AHEAD_CELLS, cell_at(network.at - 2) + JOIN_AHEAD_CELLS)
    network.run(60)
    assert cells_of(second, first.sealed) == list(range(since, horizon(first) + 1))
    assert cells_of(second, second.sealed) == cells_of(second, first.sealed)
    agree(network)


def test_who_stops_cleanly_is_waited_for_up_to_its_last_cell_and_no_longer() -> None:
    network, (one, other, third) = a_fleet("gw-1", "gw-2", "gw-3")
    network.stop(other)
    last = max(cell for _, cell in other.owned)
    network.run(15)

    assert cells_of(other, one.sealed)[-1] == last == cells_of(other, third.sealed)[-1]
    assert horizon(one) >= cell_at(network.at) - 3
    assert members(one) == ["gw-1", "gw-3"]
    assert not any(sealed.killed for sealed in one.sealed)


def test_who_is_killed_is_waited_for_sixty_seconds_and_counts_as_an_unclean_end_once() -> None:
    network, (one, other, _) = a_fleet("gw-1", "gw-2", "gw-3")
    network.run(3)  # its newest batch is handed on
    network.kill(other)
    network.run(45)

    [waiting] = one.fleet.describe(one.moment(network.at)).waiting
    assert waiting.host == "gw-2"
    assert 40 <= waiting.silent_seconds <= 50
    assert horizon(one) < cell_at(network.at) - 6
    network.run(30)

    view = one.fleet.describe(one.moment(network.at))
    assert (view.counted, view.waiting) == (["gw-1", "gw-3"], [])
    assert [(left.host, left.why) for left in view.left_out] == [
        ("gw-2", "it is gone: nothing was heard of it")
    ]
    assert [sealed.killed for sealed in one.sealed if sealed.killed] == [("gw-2",)]
    assert cells_of(other, one.sealed) == sorted(cell for _, cell in other.owned)
    agree(network)


def test_gateways_of_one_host_have_names_of_their_own_where_one_of_them_is_left_out() -> None:
    """As several in one container, or in pods that share the network of their host."""
    counted, off, gone = (GatewayId(digit * 16, "gw") for digit in "123")
    absences = Absences()
    absences.note(off, "its clock is 61 s off", Moment(100.0, 90.0))
    absences.note_end(gone, "it is gone", Moment(100.0, 90.0))
    joining = [Join("4" * 16, "4" * 16, "gw", 30)]

    assert absences.left_out([counted], joining, Moment(110.0, 100.0)) == [
        LeftOut("gw (2222)", "its clock is 61 s off"),
        LeftOut("gw (4444)", "it counts in 50 s"),
    ]
    assert absences.left_out([counted], [], Moment(200.0, 190.0)) == [], "the other may be its successor"
    assert absences.left_out([], [], Moment(200.0, 190.0)) == [LeftOut("gw", "its clock is 61 s off")]


def test_what_a_killed_process_wrote_counts_if_its_successor_comes_in_time() -> None:
    """Also the part of the cell that was running; and then nobody waits for sixty seconds."""
    network, (one, other, _) = a_fleet("gw-1", "gw-2", "gw-3")
    network.run(3)
    network.kill(other)
    network.run(10)
    successor = network.start("gw-2")
    network.restarts[successor.process] = other
    network.run(20)

    assert cells_of(other, one.sealed)[-1] == other.written[-1].cell
    assert [sealed.killed for sealed in one.sealed if sealed.killed] == [("gw-2",)]
    assert horizon(one) >= cell_at(network.at) - 4
    network.run(40)
    assert members(one) == ["gw-1", "gw-2", "gw-3"]
    assert [sealed.killed for sealed in one.sealed if sealed.killed] == [("gw-2",)]
    agree(network)


def test_what_it_wrote_is_refused_once_the_others_went_on_without_it() -> None:
    network, (one, other, _) = a_fleet("gw-1", "gw-2", "gw-3")
    network.cuts = [{"gw-2"}]
    network.run(20)
    network.kill(other)
    network.cuts = []
    network.run(80)
    counted = cells_of(other, one.sealed)
    successor = network.start("gw-2")
    network.restarts[successor.process] = other
    network.run(60)

    assert counted[-1] < other.written[-1].cell
    assert cells_of(other, one.sealed) == counted
    assert members(one) == ["gw-1", "gw-2", "gw-3"]
    agree(network)


def test_a_gateway_that_nobody_can_ask_holds_nobody_up_and_seals_nothing_by_itself() -> None:
    """It hears the others, and what it observed reaches none of them."""
    network, (one, _, deaf) = a_fleet("gw-1", "gw-2", "gw-3")
    network.deaf = {"gw-3"}
    network.run(90)

    assert members(one) == ["gw-1", "gw-2"]
    assert deaf.takeovers == 1  # that of its start
    assert horizon(deaf) >= cell_at(network.at) - 4
    left_out = {left.host: left.why for left in deaf.fleet.describe(deaf.moment(network.at)).left_out}
    assert "the others heard nothing of it for too long" in left_out["gw-3"]
    network.deaf = set()
    network.run(60)
    assert members(one) == ["gw-1", "gw-2", "gw-3"]
    agree(network)


def test_a_process_that_was_halted_takes_nobody_elses_silence_from_it() -> None:
    network, (halted, other, _) = a_fleet("gw-1", "gw-2", "gw-3")
    halted.is_halted = True
    network.run(300)
    halted.is_halted = False
    network.run(60)

    assert members(other) == ["gw-1", "gw-2", "gw-3"] == members(halted)
    assert [sealed.killed for sealed in other.sealed if sealed.killed] == [("gw-1",)]
    agree(network)


def test_where_all_members_end_at_once_those_who_follow_them_go_on() -> None:
    """One stops and the other is killed, before their successors are members."""
    network, (one, other) = a_fleet("gw-1", "gw-2")
    network.kill(other)
    network.stop(one)
    network.run(2)
    successors = [network.start("gw-1"), network.start("gw-2")]
    network.run(200)

    assert [members(gateway) for gateway in successors] == [["gw-1", "gw-2"]] * 2
    assert successors[0].digests[horizon(successors[1])] == successors[1].digests[horizon(successors[1])]


# A network that loses, repeats, delays and reorders messages


@st.composite
def scenarios(draw: st.DrawFn) -> tuple[Network, list[str]]:
    """A network of 1, 3 or 5 gateways, and what happens to some of them, one after the other."""
    network = Network(
        draw(st.integers(0, 2**32)),
        loss=draw(st.sampled_from([0.0, 0.1, 0.3])),
        late=draw(st.sampled_from([0.0, 0.3, 0.6])),
        repeated=draw(st.sampled_from([0.0, 0.3])),
    )
    size = draw(st.sampled_from([1, 3, 5]))
    network.start("gw-0")
    network.run(draw(st.sampled_from([3, 10, 40])))
    for number in range(1, size):
        network.start(f"gw-{number}")
        network.run(draw(st.sampled_from([0, 1, 5])))
    events = ["stop", "kill", "kill and restart with its disk"] if size > 1 else []
    return network, draw(st.lists(st.sampled_from(events), max_size=3, unique=True)) if events else []


@settings(max_examples=25, deadline=None)
@given(scenarios(), st.data())
def test_every_process_seals_the_same_cells_and_loses_nothing_of_a_member(
    scenario: tuple[Network, list[str]], data: st.DataObject
) -> None:
    """Whatever the network does: nothing is counted twice, and nothing is lost but what a killed process had
    not handed on, and what a process observed whose joining or ending reached nobody."""
    network, events = scenario
    network.run(60)
    for event in events:
        gateway = data.draw(st.sampled_from([one for one in network.up() if one.ends_at is None]))
        if event == "stop":
            network.stop(gateway)
            gateway.ends_at = network.at + 12.0  # enough for this network
            network.run(14)
            network.start(gateway.host)
        elif event == "kill":
            network.kill(gateway)
            network.run(data.draw(st.sampled_from([30, 100])))
            network.start(gateway.host)
        else:
            network.kill(gateway)
            network.run(data.draw(st.sampled_from([3, 20, 50])))
            network.restarts[network.start(gateway.host).process] = gateway
        network.run(data.draw(st.sampled_from([5, 40, 90])))
    network.run(150)

    agree(network)
    newest = max(network.up(), key=horizon)
    assert all(horizon(gateway) >= cell_at(network.at) - 8 for gateway in network.up())
    counted = {
        (member, one.cell): batch
        for gateway in network.gateways
        for one in gateway.sealed
        for member, batch in one.batches.items()
    }
    for gateway in network.gateways:
        for member in {member for member, _ in gateway.owned}:
            cells = sorted(cell for one, cell in gateway.owned if one == member and cell <= horizon(newest))
            lost = [cell for cell in cells if (member, cell) not in counted]
            assert lost == cells[len(cells) - len(lost) :]  # none in between
            if gateway.is_up and network.loss < 0.3:
                assert not lost
            assert all(
                counted[member, cell].runs == gateway.owned[member, cell].runs
                for cell in cells[: len(cells) - len(lost)]
            )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["cut", "halt", "deaf", "kill", "stop"]), max_size=3))
def test_whatever_happened_one_state_is_left_once_all_can_meet(seed: int, events: list[str]) -> None:
    network = Network(seed, loss=0.1, late=0.3, repeated=0.2)
    for number in range(3):
        network.start(f"gw-{number}", ahead=network.chance.choice([0.0, 1.0, 40.0, -3600.0]))
    network.run(30)
    for event in events:
        gateway = network.chance.choice([one for one in network.up() if one.ends_at is None])
        if event == "cut":
            network.cuts = [{gateway.host}]
        elif event == "halt":
            gateway.is_halted = True
        elif event == "deaf":
            network.deaf = {gateway.host}
        else:
            (network.kill if event == "kill" else network.stop)(gateway)
            network.run(10)
            network.start(gateway.host)
        network.run(network.chance.choice([10, 70, 150]))
    network.cuts, network.deaf = [], set()
    for gateway in network.gateways:
        gateway.is_halted = False
    network.run(400)

    up = network.up()
    cell = min(horizon(gateway) for gateway in up)
    assert len({gateway.digests[cell] for gateway in up}) == 1
    assert [members(gateway) for gateway in up] == [["gw-0", "gw-1", "gw-2"]] * 3


# Two fleets


def test_a_cut_of_five_minutes_ends_in_one_state() -> None:
    """The side that had more requests stays; the other one takes its state over, and joins anew."""
    network, (one, other, alone) = a_fleet("gw-1", "gw-2", "gw-3")
    network.cuts = [{"gw-3"}]
    network.run(300)
    assert (members(one), members(alone)) == (["gw-1", "gw-2"], ["gw-3"])
    cell = min(horizon(one), horizon(alone))
    assert one.digests[cell] == other.digests[cell] != alone.digests[cell]
    network.cuts = []
    network.run(60)

    assert (one.takeovers, other.takeovers, alone.takeovers) == (0, 1, 2)
    assert [members(gateway) for gateway in network.gateways] == [["gw-1", "gw-2", "gw-3"]] * 3
    agree(network)


def test_gateways_that_start_at_the_same_moment_end_in_one_state() -> None:
    """None of them had an answer from another one, so each went on alone."""
    network = Network(1)
    gateways = [network.start(f"gw-{number}") for number in range(3)]
    network.cuts = [{"gw-0"}, {"gw-1"}]
    network.run(4)
    network.cuts = []
    network.run(60)

    assert [members(gateway) for gateway in gateways] == [["gw-0", "gw-1", "gw-2"]] * 3
    assert sorted(gateway.takeovers for gateway in gateways)[0] == 0
    agree(network)


def test_a_state_on_disk_with_more_requests_wins_over_a_fleet_that_has_just_begun() -> None:
    network = Network(1)
    begun = network.start("gw-1")
    network.run(10)
    restored = network.start("gw-2")
    restored.fleet.restore(cell_at(network.at) - 100, 1_000_000, {})
    network.run(90)

    assert (begun.takeovers, restored.takeovers) == (1, 0)
    assert members(begun) == ["gw-1", "gw-2"] == members(restored)
    state = begun.fleet.state()
    assert state is not None
    assert state.sealed.requests > 1_000_000


def test_a_state_on_disk_gives_way_to_a_fleet_that_went_on() -> None:
    network, (one, *_) = a_fleet("gw-1", "gw-2", "gw-3")
    restored = network.start("gw-4")
    restored.fleet.restore(cell_at(network.at) - 100, 100, {})
    network.run(60)

    assert (one.takeovers, restored.takeovers) == (0, 1)
    assert members(one) == ["gw-1", "gw-2", "gw-3", "gw-4"]
    agree(network)


# Clocks


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 40.0, -40.0])
def test_a_clock_that_is_off_is_named_and_changes_nothing(ahead: float) -> None:
    network, (one, *_) = a_fleet("gw-1", "gw-2", "gw-3")
    off = network.start("gw-4", ahead=ahead)
    network.run(8)
    [left_out] = off.fleet.describe(off.moment(network.at)).left_out

    assert left_out.host == "gw-4"
    word = "ahead" if ahead > 0 else "behind"
    assert f"its clock was {abs(ahead):.0f} s {word}, and is set by the others'" in left_out.why
    assert off.ahead == 0.0
    network.run(60)
    assert members(one) == ["gw-1", "gw-2", "gw-3", "gw-4"]
    assert horizon(one) >= cell_at(network.at) - 3
    assert one.takeovers == 0
    agree(network)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_a_gateway_that_began_alone_with_such_a_clock_gives_way(ahead: float) -> None:
    network, (one, *_) = a_fleet("gw-1", "gw-2", "gw-3")
    off = network.start("gw-4", ahead=ahead)
    network.cuts = [{"gw-4"}]
    network.run(60)
    network.cuts = []
    network.run(90)

    assert members(one) == ["gw-1", "gw-2", "gw-3", "gw-4"] == members(off)
    assert (one.takeovers, off.ahead) == (0, 0.0)
    agree(network)


def test_of_two_clocks_that_of_the_older_gateway_counts() -> None:
    network = Network(1)
    older = network.start("gw-1", ahead=3600.0)
    network.run(60)
    younger = network.start("gw-2")
    network.run(60)

    assert (older.ahead, younger.ahead) == (3600.0, 3600.0)
    assert members(older) == ["gw-1", "gw-2"]


def test_time_on_the_way_is_no_difference_of_clocks() -> None:
    _, (one, other) = a_fleet("gw-1", "gw-2")
    asked, now = other.moment(START + 100), other.moment(START + 130)
    news = one.fleet.answer(other.fleet.have(), one.moment(START + 115))

    assert other.fleet.take(news, asked, now).shift == 0.0


# What is refused


def test_batches_of_cells_that_are_not_over_yet_are_refused() -> None:
    network, (one, other) = a_fleet("gw-1", "gw-2")
    news = other.fleet.answer(one.fleet.have(), other.moment(network.at))
    member = next(iter(other.owned))[0]
    news.batches = [Batch(member, cell_at(network.at) + 3, observed(1))]
    one.fleet.take(news, one.moment(network.at), one.moment(network.at))

    assert one.fleet.have().held[member] < cell_at(network.at) + 3


def with_state(news: News, **changes: object) -> None:
    """Another fleet's state, with these fields."""
    news.state = msgspec.structs.replace(first_state(5), **changes)


_JOIN = Join("0" * 16, "0" * 16, "gw", 1)
IMPOSSIBLE: dict[str, Callable[[News], None]] = {
    "process": lambda news: setattr(news, "process", "gw-1"),
    "host": lambda news: setattr(news, "host", "gw\n1"),
    "clock": lambda news: setattr(news, "clock", float("nan")),
    "age": lambda news: setattr(news, "age", -1.0),
    "held": lambda news: setattr(news, "held", {"not an id": 5}),
    "join": lambda news: setattr(news, "joins", [Join("z" * 16, "0" * 16, "gw", 1)]),
    "joins": lambda news: setattr(news, "joins", [_JOIN] * 300),
    "end": lambda news: setattr(news, "ends", [MemberEnd("0" * 16, -5, clean=True)]),
    "vote": lambda news: setattr(news, "votes", [Vote("0" * 16, 0, {"0" * 16: Held(1)})]),
    "number": lambda news: setattr(news, "numbers", {KEY: 0}),
    "key": lambda news: setattr(news, "numbers", {"a run": 1}),
    "digest": lambda news: setattr(news, "sealed", SealedAt(1, b"", 0)),
    "requests": lambda news: setattr(news, "then", SealedAt(1, b"0" * 16, -1)),
    "member of a state": lambda news: with_state(news, members=[Join("z" * 16, "0" * 16, "gw", 1)]),
    "state of another cell": with_state,
    "host in a state": lambda news: with_state(news, due=["x" * 257]),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_claim_that_can_not_be_changes_nothing(what: str) -> None:
    network, (one, other) = a_fleet("gw-1", "gw-2")
    news = sent(other.fleet.answer(one.fleet.have(), other.moment(network.at)))
    IMPOSSIBLE[what](news)
    before = one.fleet.have()

    with pytest.raises(MessageRefused):
        one.fleet.take(news, one.moment(network.at), one.moment(network.at))
    assert one.fleet.have() == before


def test_a_question_changes_nothing_however_often_it_is_asked() -> None:
    network, (one, other) = a_fleet("gw-1", "gw-2")
    before = one.fleet.have()
    answers = [one.fleet.answer(other.fleet.have(), one.moment(network.at)) for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert one.fleet.have() == before


def test_a_gateway_knows_itself_among_its_peers() -> None:
    network, (one,) = a_fleet("gw-1")
    now = one.moment(network.at)
    taken = one.fleet.take(one.fleet.answer(one.fleet.have(), now), now, now)

    assert (taken.took_over, taken.shift, taken.raised) == (False, 0.0, ())


# Bounds


def test_batches_wait_for_24_cells_and_what_is_observed_later_meanwhile_is_not_kept() -> None:
    _, (one, _) = a_fleet("gw-1", "gw-2")
    sealed = horizon(one)
    fleet = one.fleet
    for cell in range(one.next_cell, sealed + KEPT_CELLS + 10):
        batch = fleet.own(Batch("", cell, observed(5)), Moment(0.0, cell * CELL_SECONDS + 5.0))
        assert batch is not None
        assert bool(batch.runs) == (cell <= sealed + KEPT_CELLS)


def test_only_the_batches_of_24_sealed_cells_are_kept() -> None:
    network, (one, other, _) = a_fleet("gw-1", "gw-2", "gw-3")
    network.run(400)
    everything = one.fleet.answer(
        msgspec.structs.replace(other.fleet.have(), held={}), one.moment(network.at)
    )
    whole = msgspec.structs.replace(other.fleet.have(), held={}, wants_state=True)
    kept = one.fleet.answer(whole, one.moment(network.at)).batches

    assert len(everything.batches) <= 3 * 4
    assert KEPT_CELLS * 3 <= len(kept) <= (KEPT_CELLS + 3) * 3
    assert len(one.fleet.sealed_after(horizon(one) - 20) or ()) == 20
    assert one.fleet.sealed_after(horizon(one) - KEPT_CELLS - 5) is None


def test_a_fleet_forgets_those_that_ended() -> None:
    network, (one, *_) = a_fleet("gw-1", "gw-2", "gw-3")
    for _ in range(6):
        gateway = next(gateway for gateway in network.up() if gateway.host == "gw-2")
        network.stop(gateway)
        network.run(8)
        network.start("gw-2")
        network.run(60)
    network.run(200)
    news = one.fleet.answer(one.fleet.have(), one.moment(network.at))

    assert members(one) == ["gw-1", "gw-2", "gw-3"]
    assert len(news.held) == 3
    assert (news.joins, news.ends, news.votes) == ([], [], [])
    agree(network)


# The outage rule, and numbers of runs


def test_half_of_the_fleets_newest_fifty_requests_open_every_breaker() -> None:
    network, gateways = a_fleet("gw-1", "gw-2", "gw-3")
    cell = cell_at(network.at)
    for gateway, (requests, faults) in zip(gateways, [(20, 9), (20, 10), (9, 5)], strict=True):
        gateway.fleet.note_running(cell, {RUN: (requests, faults)})
    network.run(4)
    assert [gateway.fleet.outages() for gateway in gateways] == [[]] * 3  # 49 requests
    gateways[2].fleet.note_running(cell + 1, {RUN: (1, 1)})
    network.run(4)

    said = "25 of its newest 50 requests in the fleet were faults"
    assert [gateway.fleet.outages() for gateway in gateways] == [[(RUN, said)]] * 3


def test_the_rule_looks_back_as_far_as_fifty_requests_and_whole_cells() -> None:
    network, (gateway,) = a_fleet("gw-1")
    cell = cell_at(network.at)
    for ago, (requests, faults) in enumerate([(30, 20), (15, 4), (40, 40)]):
        gateway.fleet.note_running(cell + ago - 3, {RUN: (requests, faults)})

    assert gateway.fleet.outages() == [(RUN, "44 of its newest 55 requests in the fleet were faults")]
    gateway.fleet.note_running(cell, {RUN: (60, 0)})
    assert gateway.fleet.outages() == []


def test_a_reset_begins_the_run_anew_everywhere() -> None:
    network, gateways = a_fleet("gw-1", "gw-2", "gw-3")
    cell = cell_at(network.at)
    gateways[1].fleet.note_running(cell, {RUN: (50, 50)})
    network.run(4)
    assert gateways[0].fleet.reset(KEY) == RunId(KEY, 2)
    network.run(4)

    assert [gateway.fleet.number(KEY) for gateway in gateways] == [2, 2, 2]
    assert [gateway.fleet.outages() for gateway in gateways] == [[], [], []]


def test_of_two_numbers_in_a_cell_the_higher_one_counts() -> None:
    network, (one, other) = a_fleet("gw-1", "gw-2")
    for gateway, number in ((one, 1), (other, 2)):
        gateway.fleet.own(
            Batch("", gateway.next_cell, observed(9, number=number)), gateway.moment(network.at + 5)
        )
        gateway.next_cell += 1
    cell = one.next_cell - 1
    network.run(30)

    [sealed] = [sealed for sealed in one.sealed if sealed.cell == cell]
    assert sealed.runs == {RunId(KEY, 2): [observed(9, number=2)[KEY][1]]}
    later = [sealed.runs for sealed in one.sealed if sealed.cell > cell]
    assert later == [{}] * len(
        later
    )  # what is still observed under the lower number is of a run that is over


def test_the_oldest_member_notifies() -> None:
    network, gateways = a_fleet("gw-1", "gw-2", "gw-3")
    assert [gateway.fleet.is_oldest for gateway in gateways] == [True, False, False]
    network.stop(gateways[0])
    network.run(20)
    assert sum(gateway.fleet.is_oldest for gateway in network.up()) == 1


# How fast


def test_fifty_gateways_that_ask_four_others_each_know_a_batch_after_six_exchanges() -> None:
    """And seal it with the next ones."""
    network = Network(5)
    network.start("gw-0")
    network.run(10)
    for number in range(1, 50):
        network.start(f"gw-{number}")
    network.run(45)
    gateways = network.gateways
    assert all(len(members(gateway)) == 50 for gateway in gateways)
    rounds = []
    for gateway in gateways[:3]:
        network.run(5 - (network.at - START) % 5 + 0.5)  # a cell has just ended
        member = next(reversed(gateway.owned))[0]
        cell = gateway.fleet.have().held[member]
        start = network.at
        while any(one.fleet.have().held[member] < cell for one in gateways):
            network.run(0.5)
        rounds.append((network.at - start) / 2.0)

    assert max(rounds) <= 6
    assert all(horizon(gateway) >= cell_at(network.at) - 4 for gateway in gateways)


def test_what_a_gateway_says_of_running_cells_is_short() -> None:
    """At any rate of requests: those back to the newest fifty."""
    _, (gateway,) = a_fleet("gw-1")
    for cell in range(1_000):
        gateway.fleet.note_running(cell, {RUN: (1, 0)})
    news = gateway.fleet.answer(
        msgspec.structs.replace(gateway.fleet.have(), running={}), gateway.moment(START + CELL_SECONDS)
    )

    assert news.running[0].runs[KEY] == RunningCounts(1, [(cell, 1, 0) for cell in range(950, 1_000)])
