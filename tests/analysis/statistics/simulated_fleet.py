"""Gateways that share one canary, without sockets: the real recorder, membership and state in made-up time.

All processes have the same clock, in seconds since 1970. Nothing here decides anything: it deals out
requests, carries messages or loses them, and does once a second what a gateway does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count

import msgspec
import numpy as np

from router.analysis.criteria import Criteria
from router.analysis.fleet import Fleet
from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_messages import Have, News
from router.analysis.fleet_state import SealedCell
from router.analysis.joined_runs import JoinedRun
from router.analysis.run import AnalysisRun, ComparedVersions
from router.analysis.run_key import RunSubject
from router.analysis.run_state import RunState, RunStateData
from router.analysis.statistics.cell_recorder import Observation
from router.analysis.statistics.counts import ArmCounters
from router.analysis.statistics.records import Batch, cell_of
from router.core.ids import CANARY, GatewayId, VersionId
from router.core.split import Split
from router.core.verdict import Verdict
from tests.analysis.statistics.shared_traffic import Requests, Versions

VERSIONS = ComparedVersions(VersionId("fraud", 1), VersionId("fraud", 2), "salt", (), Criteria())
BEGAN = 1_800_000_035
"""When made-up time begins."""
ASKED = 4
"""Peers that are asked in one exchange, at most."""
EXCHANGE_SECONDS = 2


class Judge(JoinedRun):
    """What is known of the run, and what was said when. Processes that fold the same cells may share one,
    which saves time."""

    def __init__(self, subject: RunSubject, number: int, state: RunState) -> None:
        super().__init__(subject, number, state)
        self.keeps_digests = False
        self.digests: dict[int, bytes] = {}
        """By cell."""
        self.kept: dict[int, bytes] = {}
        """By cell, `essence_of` the state."""
        self.members: dict[int, frozenset[str]] = {}
        """Whose batches were in a cell, by its number."""
        self.failed_cell: int | None = None
        self.proven = False
        """Whether a rise was ever proven, however small it was."""
        self.verdicts: dict[int, Verdict] = {}
        """By cell in which it changed; only where digests are kept."""

    @classmethod
    def new(cls, criteria: Criteria, cell: int, *, digests: bool) -> "Judge":
        """One that knows nothing yet."""
        subject = RunSubject("fraud", CANARY, 1, 2, "salt", criteria, None, None, "")
        judge = cls(subject, 1, RunState.begin(criteria, None, cell))
        judge.keeps_digests = digests
        return judge

    def copy(self) -> "Judge":
        """One that goes on by itself from here."""
        judge = Judge(self.subject, 1, self.state)
        judge.failed_cell, judge.proven = self.failed_cell, self.proven
        judge.load_state(self.state.dump())
        return judge

    def load_state(self, data: RunStateData) -> None:
        """Another's state in the place of its own."""
        self.state = RunState.load(data, self.subject.criteria, None)
        self._judge(self.state.horizon)

    def take(self, sealed: SealedCell) -> None:
        """Fold it, once: whoever seals it later must find the same in it."""
        found = frozenset(sealed.batches)
        parts = {member: b.runs[self.id.key][1] for member, b in sealed.batches.items() if b.runs}
        if sealed.cell <= self.state.horizon:
            assert self.members.get(sealed.cell, found) == found, "two gateways sealed one cell differently"
        elif parts or not self.is_empty:
            self.members[sealed.cell] = found
            self.fold(sealed.cell, parts)
            for host in sealed.killed:
                self.note_unclean_end(sealed.cell, host)

    def _judge(self, cell: int) -> None:
        state = self.state
        if self.failed_cell is None and failed_by(state):
            self.failed_cell = cell
        self.proven = self.proven or any(
            proof.proven
            for rate in (state._faults, state._latency)
            for proof in (rate.cumulative_proof, rate.epoch_proof)
        )
        if self.keeps_digests:
            self.digests[cell], self.kept[cell] = state.digest(), essence_of(state)
            super()._judge(cell)
            if not self.verdicts or list(self.verdicts.values())[-1] is not self.report.verdict:
                self.verdicts[cell] = self.report.verdict


def failed_by(state: RunState) -> str:
    """By which process it fails; empty where it does not."""
    return state._faults.state.failed_by or state._latency.state.failed_by


def essence_of(state: RunState) -> bytes:
    """All that decides a FAIL, and L: buckets, counts, and every logarithm to the last bit."""
    rates = (
        (rate.cumulative, rate.epoch, rate.betting, rate.epoch_betting, rate.non_inferiority, rate.total)
        for rate in (state._faults.state, state._latency.state)
    )
    cells = state.first_cell, state.horizon, state.step_cell, state.ranges, state.line
    return msgspec.msgpack.encode((hash(bytes(state._buckets.events())), cells, *rates))


@dataclass
class Disk:
    """What a process left in its state directory: its last batches."""

    host: str
    process: str
    batches: list[Batch]
    """The last one is of the cell in which it ended."""

    def without_last(self) -> "Disk":
        """Had it ended before it wrote anything of that cell."""
        return Disk(self.host, self.process, self.batches[:-1])


@dataclass
class Answer:
    """What one process answers another."""

    news: News
    state: RunStateData | None


class Process:
    """A gateway, from a start to an end."""

    def __init__(self, number: int, host: str, split: Split, judge: Judge, now: float) -> None:
        self.id, self.host, self.judge = f"{number:016x}", host, judge
        self.fleet = Fleet(GatewayId(self.id, host), Moment(now, now))
        self.split, self.cell = split, cell_of(now)
        self.begin_run(now)
        self.leaves_at: float | None = None
        self.broken_at: float | None = None
        """When its breaker opened, by the fuse of the fleet."""
        self.canary_requests = 0
        self.lacks_state = False
        self.judge_of_all: Judge | None = None
        """To which it comes back, of one that was cut off."""
        self.next_exchange = now + EXCHANGE_SECONDS

    def begin_run(self, now: float, hour: dict[int, int] | None = None) -> None:
        """Both versions serve here from now on. `hour`: production's durations before, by bin."""
        arms = ArmCounters(()), ArmCounters(())
        self.run = AnalysisRun(
            VERSIONS, CANARY, self.split, arms, self.judge, compares=True, now=now, cell=self.cell
        )
        self.run._running.history = hour

    @property
    def counts(self) -> bool:
        """Whether what it observes in the running cell counts."""
        first = self.fleet.first_cell
        return first is not None and first <= self.cell

    # Requests

    def serve(self, requests: Requests, versions: Versions) -> None:
        """Answer them, each by the split that is in force here."""
        if not self.run.compares:
            return
        split, observe, canaries = self.split, self.run.observe, 0
        for bucket, canary, fault, took, call in versions.answers(requests, split.canary):
            seconds, blamed = None if fault else took, None if call < 0 else call
            observe(Observation(bucket, canary, split, fault, seconds, None, blamed, False))
            canaries += canary
        self.canary_requests += canaries

    def change_split(self, split: Split) -> None:
        """Requests are routed by it from now on."""
        self.split = split
        self.run.change_split(split)

    # Cells

    def end_cell(self, now: float, *, compares: bool = True) -> None:
        """The running cell is over, and another begins."""
        _, whole = self.run.end_cell(counts=self.counts)
        of_run = compares and (whole.compares or whole.records)
        runs = {self.run.id.key: (self.run.id.number, whole)} if of_run else {}
        self.fleet.own(Batch("", self.cell, runs), Moment(now, now))
        self.cell += 1

    def written(self) -> Disk:
        """What it had written by now, were it killed."""
        self.run.drain()
        key, number = self.run.id.key, self.run.id.number
        batches = [Batch("", cell, {key: (number, part)}) for cell, part in self.run.unsealed()]
        return Disk(self.host, self.id, batches)

    def seal(self, now: float) -> None:
        """Fold what is sealed."""
        for sealed in self.fleet.seal(Moment(now, now)):
            self.judge.take(sealed)
        self.run.follow_state()

    def run_fuse(self, now: float) -> None:
        """Say how the canary does in the running cell, and break it off where all of the fleet's say so."""
        self.run.drain()
        self.fleet.note_running(self.cell, {self.run.id: self.run.canary_now()})
        if self.fleet.outages() and self.broken_at is None:
            self.broken_at, self.run.compares = now, False
            self.run.note_outage(seen_elsewhere=True)

    # The exchange

    def question(self) -> Have:
        """What it lacks."""
        return self.fleet.have([self.run.id.key] if self.lacks_state else [])

    def answer(self, have: Have, now: float) -> Answer:
        """What whoever asks lacks."""
        news = self.fleet.answer(have, Moment(now, now))
        wanted = news.state is not None or self.run.id.key in have.lacks
        return Answer(news, self.judge.state.dump() if wanted and not self.judge.is_empty else None)

    def take(self, answer: Answer, asked: float, now: float) -> None:
        """Take over what a peer answered."""
        taken = self.fleet.take(answer.news, Moment(asked, asked), Moment(now, now))
        if taken.took_over and self.judge_of_all is not None:
            self.judge = self.run.joined = self.judge_of_all
            self.judge_of_all = None
            return
        self.lacks_state = self.lacks_state or taken.took_over
        if self.lacks_state and answer.state is not None:
            self.lacks_state = False
            if self.judge.is_empty or self.judge.state.horizon < answer.state.horizon:
                self.judge.load_state(answer.state)
            for sealed in self.fleet.sealed_after(answer.state.horizon) or ():
                self.judge.take(sealed)
            self.run.follow_state()


class World:
    """Gateways, the network between them, and time."""

    def __init__(
        self,
        seed: int,
        hosts: Iterable[str],
        split: Split,
        *,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        shared: bool = True,
        lost: float = 0.0,
        repeated: float = 0.0,
        late: float = 0.0,
        wire: bool = False,
    ) -> None:
        """`shared`: one state for all.

        `lost`, `repeated`, `late`: shares of the answers, 0 to 1; late ones come up to 6 s later and overtake
        each other. `wire`: answers are encoded and decoded.
        """
        self.drawn = np.random.default_rng([seed, 7])
        self.now, self.split, self.criteria = float(BEGAN), split, criteria
        self.shared = Judge.new(criteria, self.cell, digests=False) if shared else None
        self.lost, self.repeated, self.late, self.wire = lost, repeated, late, wire
        self.silent: set[str] = set()
        """Hosts that nobody reaches, and that reach nobody."""
        self.processes: dict[str, Process] = {}
        """Those that run, by host."""
        self.ended: list[Process] = []
        self.is_begun = False
        """Whether the versions are compared."""
        self._order = count()
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        for host in hosts:
            self.start(host)

    def begin(self, hour: dict[int, int] | None = None) -> None:
        """The versions are compared from now on, at all gateways. `hour` as of one of them."""
        self.is_begun = True
        for process in self.processes.values():
            process.begin_run(self.now, hour)
            hour = None

    def start(self, host: str, disk: Disk | None = None, *, clean: bool = True) -> Process:
        """A new process, which asks the others before it goes on."""
        judge = self.shared or Judge.new(self.criteria, self.cell, digests=True)
        number = int(self.drawn.integers(1, 2**62))
        process = Process(number, host, self.split, judge, self.now)
        for peer in list(self.processes.values()):
            if not {host, peer.host} & self.silent:
                self._carry(peer.answer(process.question(), self.now), process, self.now)
        moment = Moment(self.now, self.now)
        if disk is not None:
            process.fleet.add_ended(disk.process, disk.host, disk.batches, clean=clean, now=moment)
        process.fleet.start(moment)
        process.run_fuse(self.now)
        self.processes[host] = process
        return process

    def cut_off(self, host: str) -> Judge:
        """Nobody reaches it, nor does it reach anybody: what it makes of its own requests is returned."""
        self.silent.add(host)
        process = self.processes[host]
        process.judge_of_all = process.judge
        process.judge = process.run.joined = process.judge.copy()
        return process.judge

    def leave(self, host: str) -> None:
        """It ends cleanly: after two exchanges nobody asks it any more."""
        process = self.processes[host]
        process.end_cell(self.now)
        process.fleet.leave()
        process.leaves_at = self.now + 2 * EXCHANGE_SECONDS + 1

    def kill(self, host: str) -> Process:
        """It ends as by SIGKILL."""
        process = self.processes.pop(host)
        self.ended.append(process)
        return process

    def kill_with_disk(self, host: str) -> Disk:
        """The same; what it observed until now is in its state directory, but its state is not."""
        return self.kill(host).written()

    @property
    def serving(self) -> list[Process]:
        """Those that take requests."""
        return [each for each in self.processes.values() if each.leaves_at is None]

    @property
    def counting(self) -> list[Process]:
        """Those of them whose facts count in the running cell."""
        return [each for each in self.serving if each.counts]

    @property
    def cell(self) -> int:
        """The running one."""
        return cell_of(self.now)

    def change_split(self, split: Split, hosts: Iterable[str] | None = None) -> None:
        """These hosts, or all and those that start later, route by it from now on."""
        if hosts is None:
            self.split = split
        for host in list(self.processes) if hosts is None else hosts:
            self.processes[host].change_split(split)

    # Time

    def serve(self, requests: Requests, versions: Versions, *, counting: bool = False) -> None:
        """Deal out requests to those that serve, or only to those whose facts count."""
        serving = self.counting if counting else self.serving
        for process, dealt in zip(serving, requests.dealt(self.drawn, len(serving)), strict=True):
            process.serve(dealt, versions)

    def pass_cell(self) -> None:
        """The rest of the running cell goes by."""
        cell = self.cell
        while self.cell == cell:
            self.pass_second()

    def pass_second(self, *, fuse: bool = False) -> None:
        """A second goes by: cells end, messages come, cells are sealed, and breakers are looked at."""
        self.now += 1.0
        while self._under_way and self._under_way[0][0] <= self.now:
            heappop(self._under_way)[2]()
        for process in list(self.processes.values()):
            if process.leaves_at is None:
                if fuse:  # before the cell is over: what came in this second is of it
                    process.run_fuse(self.now)
                if cell_of(self.now) > process.cell:
                    process.end_cell(self.now, compares=self.is_begun)
            elif self.now >= process.leaves_at:
                self.ended.append(self.processes.pop(process.host))
                continue
            if self.now >= process.next_exchange:
                process.next_exchange = self.now + EXCHANGE_SECONDS
                self._exchange(process)
        for process in self.processes.values():
            process.seal(self.now)

    def _exchange(self, asker: Process) -> None:
        if asker.host in self.silent:
            return
        peers = [
            each for each in self.processes.values() if each is not asker and each.host not in self.silent
        ]
        asked = self.drawn.permutation(len(peers))[:ASKED] if len(peers) > 1 else range(len(peers))
        for index in asked:
            if self.drawn.random() >= self.lost:
                self._send(peers[index].answer(asker.question(), self.now), asker, self.now)

    def _send(self, answer: Answer, asker: Process, asked: float) -> None:
        delays = [6.0 * self.drawn.random() if self.drawn.random() < self.late else 0.0]
        if self.drawn.random() < self.repeated:
            delays.append(1.0 + 6.0 * self.drawn.random())
        for delay in delays:
            if not delay:
                self._carry(answer, asker, asked)
                continue
            carried = partial(self._carry, answer, asker, asked)
            heappush(self._under_way, (self.now + delay, next(self._order), carried))

    def _carry(self, answer: Answer, asker: Process, asked: float) -> None:
        if self.wire:
            packed = msgspec.msgpack.encode(answer.news)
            answer = Answer(msgspec.msgpack.decode(packed, type=News), answer.state)
        asker.take(answer, asked, self.now)
