"""What a joined verdict is worth: whole fleets on the real pure code, in seeded made-up time.

The quick ones keep the promises from breaking unseen; the slow ones measure, and `docs/evidence.md` shows
what.
"""

import os
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import pytest

from router.analysis.criteria import Criteria
from router.analysis.statistics.durations import bin_of
from router.analysis.statistics.records import CELL_SECONDS, MINUTE_CELLS
from router.core.split import Split
from router.core.verdict import Verdict
from tests.analysis.statistics.shared_traffic import Requests, Users, Versions
from tests.analysis.statistics.simulated_fleet import Judge, World, failed_by
from tests.conftest import Figure

WARM_CELLS = 10
"""Without requests: so many before the run, and in its beginning."""
THREE = ("gw-1", "gw-2", "gw-3")
FIVE_PERCENT, QUARTER = Split(5_000), Split(25_000)


def history(seconds: float, scatter: float) -> dict[int, int]:
    """Production's hour before: 1 000 lognormal durations."""
    drawn = np.random.default_rng(1)
    counts: dict[int, int] = {}
    for each in seconds * np.exp(drawn.normal(0.0, scatter, 1_000)):
        counts[bin_of(each)] = counts.get(bin_of(each), 0) + 1
    return counts


HOUR = history(0.02, 0.3)


def warm(world: World, hour: dict[int, int] | None = None) -> World:
    """All gateways are members, and the run begins; the line is known everywhere before the first request."""
    for begins in (True, False):
        for _ in range(WARM_CELLS):
            world.pass_cell()
        if begins:
            world.begin(hour)
    return world


def one_cell(world: World, requests: Requests, versions: Versions) -> None:
    """A cell goes by, and whoever counts answers these within it."""
    world.serve(requests, versions, counting=True)
    world.pass_cell()


# Equal versions


def an_hour_of_trouble(seed: int, cells: int = 720, per_cell: int = 250) -> list[Judge]:
    """Three gateways that serve heavy users by two equal versions, and all that can befall them: the state of
    the fleet, and that of the one that was cut off for 100 s, which is a fleet of its own by then."""
    users = Users(seed, heavy=True, base=0.02, crashes=2e-5)
    versions, world = Versions(base=0.02), warm(World(seed, THREE, FIVE_PERCENT, lost=0.1, late=0.1))
    part = cells // 12
    drawn = np.random.default_rng([seed, 1])
    lag = int(drawn.integers(1, 12))
    turn = list(drawn.permutation(THREE))
    for cell in range(cells):
        if cell == part:
            alone = world.cut_off(turn[0])
        if cell == part + 20:
            world.silent.clear()
        if cell == 3 * part:  # one lags behind, and lags again when the share goes back up
            world.change_split(QUARTER, turn[1:])
        if cell == 3 * part + lag:
            world.change_split(QUARTER)
        if cell == 5 * part:
            world.processes[turn[1]].run.compares = False  # a breaker is open there
        if cell == 5 * part + 36:
            world.processes[turn[1]].run.compares = True
        if 7 * part <= cell < 7 * part + 24 and (cell - 7 * part) % 8 == 0:
            host = turn[(cell - 7 * part) // 8]
            world.leave(host)
        if 7 * part < cell <= 7 * part + 24 and (cell - 7 * part) % 8 == 2:
            world.start(turn[(cell - 7 * part) // 8])
        world.serve(users.requests(per_cell), versions)
        world.pass_cell()
    assert all(process.judge is world.shared for process in world.processes.values())
    return [world.processes[turn[0]].judge, alone]


def test_equal_versions_do_not_fail_in_an_hour_of_trouble() -> None:
    judges = an_hour_of_trouble(0, 120, 100)

    assert [judge.failed_cell for judge in judges] == [None, None]
    assert judges[0].state.report().faults.canary.requests > 300


HOURS = int(os.environ.get("FLEET_HOURS", "100"))
"""That are simulated, in a minute or two for each twenty; the document's figure is of 1 000."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("quarter", range(4))
def test_hours_of_trouble_of_equal_versions(quarter: int, figure: Figure) -> None:
    """Three gateways, heavy users, a lagging split, one silent and back, rolling restarts, a breaker."""
    seeds = range(quarter, HOURS, 4)
    hours = [an_hour_of_trouble(1_000 + seed) for seed in seeds]
    wrong = sum(any(judge.failed_cell is not None for judge in judges) for judges in hours)
    proven = sum(any(judge.proven for judge in judges) for judges in hours)
    figure(f"an hour of trouble: false FAIL in {wrong} of {len(seeds)}, proven without size in {proven}")

    assert wrong <= max(1, 0.02 * len(seeds))


# How soon a worse canary fails


def until_failed(seed: int, hosts: tuple[str, ...], rise: float, most: int = 4_000) -> tuple[int, float]:
    """Canary requests by the cell in which it is said, and seconds from its end until they seal it."""
    users, versions = Users(seed, base=0.01), Versions(base=0.01, rise=rise)
    world, canaries = warm(World(seed, hosts, FIVE_PERCENT, lost=0.1)), [0]
    first = world.cell
    for _ in range(most):
        requests = users.requests(200)
        canaries.append(canaries[-1] + int((requests.buckets < FIVE_PERCENT.canary).sum()))
        world.serve(requests, versions)
        for _ in range(CELL_SECONDS):
            world.pass_second()
            assert world.shared is not None
            if (cell := world.shared.failed_cell) is not None:
                return canaries[cell + 1 - first], world.now - CELL_SECONDS * (cell + 1)
    raise AssertionError("it never failed")


def as_one_gateway(seeds: range, rise: float) -> tuple[list[int], list[int], list[float]]:
    """Canary requests until it is said, of one gateway and of three; and seconds until all three know."""
    one = [until_failed(seed, THREE[:1], rise)[0] for seed in seeds]
    three = [until_failed(seed, THREE, rise) for seed in seeds]
    return one, [requests for requests, _ in three], [seconds for _, seconds in three]


def test_three_gateways_fail_as_one_that_has_all_the_traffic() -> None:
    one, three, seconds = as_one_gateway(range(2), rise=0.2)

    assert three == pytest.approx(one, rel=0.05)
    assert max(seconds) <= 15.0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("rise", "runs"), [(0.01, 15), (0.05, 40), (0.2, 40)], ids=["+1", "+5", "+20"])
def test_canary_requests_until_three_gateways_fail(rise: float, runs: int, figure: Figure) -> None:
    one, three, seconds = as_one_gateway(range(runs), rise)
    figure(
        f"+{100 * rise:.0f}: one gateway {np.median(one):.0f}, three {np.median(three):.0f} canary requests, "
        f"and {np.median(seconds):.0f} s later, {max(seconds):.0f} s at most"
    )

    assert three == pytest.approx(one, rel=0.05)
    assert max(seconds) <= 15.0


# An outage


def broken_off(seed: int, per_second: float, share: Split) -> tuple[float, int, World]:
    """Of a canary that always fails: seconds from its 50th fault in the fleet until all have broken it off,
    and how many requests it had by then."""
    users, versions = Users(seed, base=0.0), Versions(base=0.0, rise=1.0)
    world, fiftieth = warm(World(seed, THREE, share)), None
    for _ in range(round(500 / (per_second * share.canary / 100_000)) + 60):
        world.serve(users.requests(int(world.drawn.poisson(per_second))), versions)
        world.pass_second(fuse=True)
        given = sum(each.canary_requests for each in world.processes.values())
        if fiftieth is None and given >= 50:
            fiftieth = world.now
        if all(each.broken_at is not None for each in world.processes.values()):
            assert fiftieth is not None
            return world.now - fiftieth, given, world
    raise AssertionError("it was never broken off")


@pytest.mark.parametrize("per_second", [1, 20, 500])
def test_an_always_failing_canary_is_broken_off_by_all_gateways_at_once(per_second: int) -> None:
    """Within one cell and one exchange, whatever the rate; a fourth gateway gives it nothing."""
    share = Split(50_000) if per_second == 1 else FIVE_PERCENT
    seconds, given, world = broken_off(4, per_second, share)
    fourth = world.start("gw-4")
    for _ in range(30):
        world.serve(Users(5, base=0.0).requests(20), Versions(base=0.0, rise=1.0))
        world.pass_second(fuse=True)

    assert seconds <= CELL_SECONDS + 2
    assert given <= 50 + 2 * (CELL_SECONDS + 2) * per_second * share.canary / 100_000 + 10
    assert fourth.canary_requests == 0
    assert world.shared is not None
    assert failed_by(world.shared.state)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("per_second", [1, 20, 500])
def test_what_an_always_failing_canary_gets_of_three_gateways(per_second: int, figure: Figure) -> None:
    share, runs = Split(50_000) if per_second == 1 else FIVE_PERCENT, 20
    found = [broken_off(seed, per_second, share)[:2] for seed in range(runs)]
    seconds, given = ([each[which] for each in found] for which in (0, 1))
    figure(
        f"{per_second} requests a second: broken off by all {np.median(seconds):.0f} s after the 50th fault, "
        f"{max(seconds):.0f} s at most; {np.median(given):.0f} canary requests, {max(given)} at most"
    )

    assert max(seconds) <= CELL_SECONDS + 2


# A canary that takes its container down


def taken_down_every_400_s(seed: int, seconds: int) -> tuple[bool, bool]:
    """The canary's faults all fall into the last second before it takes its gateway down with all that was
    not written: whether a pass was ever said after the second end, and whether all but the ends said so."""
    users, world = Users(seed, base=0.0), warm(World(seed, THREE, QUARTER), HOUR)
    sound, broken = Versions(base=0.0), Versions(base=0.0, rise=1.0)
    passed = would_pass = False
    assert world.shared is not None
    for second in range(1, seconds):
        if second % 400 == 0:
            host = THREE[second // 400 % 3]
            world.processes[host].serve(users.requests(20), broken)
            world.kill(host)
            world.start(host)
        world.serve(users.requests(20), sound)
        world.pass_second()
        state = world.shared.state
        if second % 60 == 59 and len(state.unclean_ends) >= 2:
            report = state.report()
            judging = {check.verdict for check in report.checks if check.judges}
            passed = passed or report.verdict is Verdict.PASS
            would_pass = would_pass or judging == {Verdict.PASS}
    return passed, would_pass


def test_a_canary_that_takes_its_container_down_never_passes() -> None:
    passed, would_pass = taken_down_every_400_s(6, 1_000)

    assert would_pass, "else it is not the ends that keep it from passing"
    assert not passed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hours_of_a_canary_that_takes_its_container_down(figure: Figure) -> None:
    runs = [taken_down_every_400_s(seed, 7_200) for seed in range(20)]
    passed, would_pass = (sum(each) for each in zip(*runs, strict=True))
    figure(
        f"taken down every 400 s for 2 h: passed in {passed} of {len(runs)}, {would_pass} but for the ends"
    )

    assert passed == 0
    assert would_pass >= len(runs) / 2


# Latency


def judged_slow(
    seed: int, production: float, ratio: float, scatter: float, cells: int, criteria: Criteria
) -> Verdict:
    """40 requests a second, half of them the canary's."""
    users, versions = Users(seed, base=0.0, seconds=production, scatter=scatter), Versions(0.0, slower=ratio)
    hour = history(production, scatter)
    world = warm(World(seed, THREE[:1], Split(50_000), criteria=criteria), hour)
    for _ in range(cells):
        one_cell(world, users.requests(200), versions)
    assert world.shared is not None
    return world.shared.state.report().latency.verdict


@pytest.mark.parametrize(
    ("production", "ratio", "scatter", "min_ratio", "verdict"),
    [
        (0.030, 1.5, 0.1, 1.2, Verdict.FAIL),
        (0.0024, 2.6 / 2.4, 0.1, 1.2, Verdict.PASS),
        (0.030, 1.1, 0.05, 1.2, Verdict.PASS),
        (0.030, 1.1, 0.05, 1.0001, Verdict.FAIL),
    ],
    ids=["30-to-45-ms", "2.4-to-2.6-ms", "a-tenth-slower", "a-tenth-slower-where-the-line-is-q"],
)
def test_how_much_slower_is_slow(
    production: float, ratio: float, scatter: float, min_ratio: float, verdict: Verdict
) -> None:
    """The line is the greater of 1.2 times production's 95th percentile, and 2 ms more than that."""
    least = 0.002 if min_ratio == 1.2 else 1e-6
    criteria = Criteria(min_ratio=min_ratio, min_seconds=least)

    assert judged_slow(7, production, ratio, scatter, 80, criteria) is verdict


# One stream, however it is dealt out


def stream(seed: int, cells: int, per_cell: int) -> Iterator[tuple[Requests, Versions]]:
    """Cells of a canary that turns a little worse half-way."""
    users = Users(seed, heavy=True, base=0.01, crashes=1e-4)
    for cell in range(cells):
        yield users.requests(per_cell), Versions(base=0.01, rise=0.0 if cell < cells // 2 else 0.1)


Ends = Literal["nobody-ends", "it-wrote", "it-did-not"]


def dealt_out(seed: int, replicas: int, cells: int, per_cell: int, ends: Ends) -> list[Judge]:
    """What gateways say that share the stream: messages are lost, repeated and late, and where there are
    several, one may be killed half-way and started anew.

    `it-did-not`: nothing of its last cell was on its disk. One gateway alone does not get those requests.
    """
    hosts = [f"gw-{index}" for index in range(1, replicas + 1)]
    unreliable = {"lost": 0.2, "repeated": 0.2, "late": 0.2} if replicas > 1 else {}
    world = warm(World(seed, hosts, FIVE_PERCENT, shared=False, wire=True, **unreliable), HOUR)
    for cell, (requests, versions) in enumerate(stream(seed, cells, per_cell)):
        if cell == cells // 2:
            of_the_killed = (requests.calls < 0) & (requests.buckets % 5 == 1)
            if replicas > 1 and ends != "nobody-ends":
                world.processes[hosts[1]].serve(requests.only(of_the_killed), versions)
                disk = world.kill_with_disk(hosts[1])
                world.start(hosts[1], disk if ends == "it-wrote" else disk.without_last(), clean=False)
                requests = requests.only(~of_the_killed)
            elif ends == "it-did-not":
                requests = requests.only(~of_the_killed)
        world.serve(requests, versions, counting=True)
        if cell == cells // 3:  # between two cells, so that what counts is the same however late one notices
            world.change_split(QUARTER)
        world.pass_cell()
    for _ in range(6):
        world.pass_cell()
    return [process.judge for process in world.processes.values()]


def assert_same(judges: list[Judge], alone: Judge, ends: Ends) -> int:
    """Cell by cell, as far back as a gateway was there. Returns how many states were compared."""
    compared = 0
    for judge in judges:
        common = sorted(judge.kept.keys() & alone.kept.keys())
        later = common[1:]
        assert common[-1] >= max(alone.kept) - 3
        assert [cell for cell in common if judge.kept[cell] != alone.kept[cell]] == []
        assert judge.failed_cell == alone.failed_cell
        assert [(cell, judge.verdicts.get(cell)) for cell in later] == [
            (cell, alone.verdicts.get(cell)) for cell in later
        ]
        assert [cell for cell in later if judge.digests[cell] != judges[0].digests[cell]] == []
        if ends == "nobody-ends":  # else counts by group of its last minute are lost, which no test needs
            minutes = [cell for cell in common if cell % MINUTE_CELLS == MINUTE_CELLS - 1]
            assert [cell for cell in minutes if judge.digests[cell] != alone.digests[cell]] == []
        compared += len(common)
    return compared


@pytest.mark.parametrize("ends", ["nobody-ends", "it-wrote"])
def test_one_stream_gives_one_verdict_however_it_is_dealt_out(ends: Ends) -> None:
    """Equal counts and bits, and ln E to the last bit, cell by cell."""
    (alone,) = dealt_out(8, 1, 48, 100, ends)
    judges = dealt_out(8, 3, 48, 100, ends)

    assert assert_same(judges, alone, ends) > 100
    assert alone.failed_cell is not None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("replicas", [3, 5])
@pytest.mark.parametrize("ends", get_args(Ends))
def test_a_million_requests_however_they_are_dealt_out(replicas: int, ends: Ends, figure: Figure) -> None:
    """What was not written is as if it had never been asked."""
    cells, per_cell = 720, 1_400
    (alone,) = dealt_out(9, 1, cells, per_cell, ends)
    judges = dealt_out(9, replicas, cells, per_cell, ends)
    compared = assert_same(judges, alone, ends)
    figure(f"{cells * per_cell:,} requests, {replicas} gateways, {ends}: {compared:,} states, none differs")
