"""Which gateways make up a fleet, and when a cell of theirs is sealed. No clock, no I/O.

A cell is sealed here once the batch of every member is here, and some other member has them all as well: so
whoever decides later that a member is gone knows at least as much of it as any state does. A new member is
one from the cell on that it announced, if a batch of an earlier cell names it. Who ends says so; who is
silent is voted out (`fleet_ends`). What then follows is computed alike by all (`fleet_state`).

Two fleets that could not meet, or gateways that started at once, have states that differ, and find that out
by digests. The state with fewer requests gives way: its side takes over the other one, and joins anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from router.analysis.fleet_batches import MemberBatches
from router.analysis.fleet_claims import Claims
from router.analysis.fleet_clocks import Moment, PeerClocks
from router.analysis.fleet_ends import MemberEnds
from router.analysis.fleet_membership import OwnMembership
from router.analysis.fleet_messages import (
    MOST_PROCESSES,
    FleetState,
    Have,
    MemberEnd,
    News,
    SealedAt,
    check_have,
    check_news,
)
from router.analysis.fleet_outage import FleetOutage
from router.analysis.fleet_silence import SILENT_SECONDS, Silence
from router.analysis.fleet_state import (
    JOIN_AHEAD_CELLS,
    KEPT_CELLS,
    SealedCell,
    SealedCells,
    first_state,
    founded,
    sealed_with,
    skipped,
    without,
)
from router.analysis.fleet_view import Absences, FleetView, LeftOut, Waiting, fleet_view, gateway_of
from router.analysis.statistics.records import CELL_SECONDS, Batch, Ended, Join, RunId, cell_of
from router.core.ids import GatewayId

MOST_AHEAD_CELLS = 2
"""A batch of a later cell than so many after the present one is refused."""
_WANTED_SECONDS = 10.0
"""So long a state is asked for that this one gives way to."""
_MOST_WAITING_CELLS = 4 * KEPT_CELLS
"""Cells after the last sealed one in which a batch is believed; from `KEPT_CELLS` on they are empty."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an answer changed beyond batches, for whoever asked to act on at once."""

    shift: float = 0.0
    """Seconds by which to move the clock of cells (`CellClock.shift`); nearly always 0."""
    took_over: bool = False
    """The fleet's state is another gateway's now: all states of runs here are void. Wanted are those that go
    with it (`Have.lacks`), and what was sealed after each (`Fleet.sealed_after`)."""
    raised: Sequence[RunId] = ()
    """Runs that begin anew, by the number in force from now on: an operator reset their breaker elsewhere."""


class Fleet:
    """Exchanges batches with other gateways, and says which cells are sealed.

    A process begins with `restore` where its state directory held evidence, then asks its peers for 2 s at
    most (`have` → their `answer` → `take`), then hands over what a predecessor left (`add_ended`), and calls
    `start`. From then on: `own` for each cell that is over, `note_running` and `seal` each second, an
    exchange every 2 s, and `leave` before the last exchanges.
    """

    def __init__(self, this: GatewayId, now: Moment) -> None:
        self._process = this.process
        self._own = OwnMembership(this)
        self._started_at = now.monotonic
        self._silence = Silence(now.monotonic)
        self._is_started = False
        self._has_left = False
        self._state: FleetState | None = None
        self._restored: FleetState | None = None
        """What the state directory held, until it is gone on from or given way."""
        self._sealed = SealedCells()
        self._batches = MemberBatches()
        self._ends = MemberEnds(self._batches.last)
        self._joins: dict[str, Join] = {}
        """Announced, and not yet in the state."""
        self._claims = Claims()
        self._killed: list[Ended] = []
        """To be named with the next batch."""
        self._wants_state = True
        self._wanted_at = now.monotonic
        self._outage = FleetOutage(this.process)
        self._clocks = PeerClocks(this.process, now.monotonic)
        self._absences = Absences()
        self._left: dict[str, int] = {}
        """By member that is none any more: the first cell without it."""

    # Begin and end

    def restore(self, cell: int, requests: int, numbers: Mapping[str, int]) -> None:
        """A state directory held states of runs as of `cell`, the newest of all, with so many requests in all
        (of both arms), and these numbers of runs, by key. Before the first `have`.

        Peers with as many requests or more win over it.
        """
        self._restored = first_state(cell, requests, numbers)
        self._outage.raise_numbers(numbers)

    def start(self, now: Moment) -> None:
        """Everything is served from now on. Goes on alone, from the present cell on, where no peer had a
        state; call `CellClock.go_past` before where the state directory's is a later one."""
        self._is_started = True
        if self._state is None:
            self._found(self._restored or first_state(now.cell - 1), now)

    def add_ended(
        self, process: str, host: str, batches: Sequence[Batch], *, clean: bool, now: Moment
    ) -> None:
        """What a predecessor left in the state directory, oldest cell first: batches that it may never have
        handed on, the last one of the cell that was running. They are of its last membership.

        After the first exchange, before `start`, or later, when the directory was free. What is known of it
        already changes nothing, nor does what comes after others went on without it.
        """
        if self._state is None and self._restored is not None:
            former = Join(process, process, host, self._restored.sealed.cell + 1)
            self._restored = replace(self._restored, members=[*self._restored.members, former])
        state = self._state or self._restored
        joins = [] if state is None else [*state.members, *state.pending]
        memberships = [join for join in joins if join.process == process]
        if state is None or not memberships:
            if not clean:
                self._killed.append(Ended(process, host))
            return
        join = memberships[-1]
        member = join.member
        self._batches.begin(member, max(join.since - 1, state.sealed.cell))
        left = {batch.cell: batch for batch in batches}
        for cell in range(self._batches.last(member) + 1, max(left, default=-1) + 1):
            if self._ends.takes(member, cell, self._deciders(state)):
                self._append(replace(left.get(cell) or Batch(member, cell), process=member), now)
        self._ends.ends.setdefault(member, MemberEnd(member, self._batches.last(member), clean))

    def leave(self) -> None:
        """The batch that was given last is the last one. Others learn that by the next exchanges."""
        self._has_left = True
        self._end_membership()

    def _found(self, state: FleetState, now: Moment) -> None:
        """Go on from `state` alone; those who are members in it come first, as far as they are known."""
        since = max(now.cell, *(self._batches.last(join.member) + 1 for join in state.members), 0)
        self._end_membership()
        self._begin_with(founded(state, self._own.begin(since)), now)

    def _announce(self, now: Moment) -> None:
        """Join the fleet whose state is here."""
        if not self._has_left:
            self._end_membership()
            join = self._own.begin(now.cell + JOIN_AHEAD_CELLS)
            self._joins[join.member] = join

    def _end_membership(self) -> None:
        """By this gateway's own word, after its newest batch."""
        if (me := self._own.now) is not None:
            self._joins.pop(me.member, None)
            last = max(self._batches.last(me.member), me.since - 1)
            self._ends.ends.setdefault(me.member, MemberEnd(me.member, last, clean=True))
            self._own.now = None

    def _begin_with(self, state: FleetState, now: Moment) -> None:
        self._state, self._restored, self._wants_state = state, None, False
        self._sealed.begin(state.sealed, is_first=not (state.members or state.sealed.requests))
        self._silence.sealed(now.monotonic)
        self._outage.raise_numbers(state.numbers)
        for join in (*state.members, *state.pending):
            self._silence.heard(join.member, now.monotonic)

    # What is observed here

    @property
    def first_cell(self) -> int | None:
        """The first that counts here; None: none does now. Facts of cells before are dropped."""
        return None if self._own.now is None else self._own.now.since

    def own(self, batch: Batch, now: Moment) -> Batch | None:
        """The batch of a cell that is over, its `process` whatever it is; for each cell, in order. Returns
        what is counted, which belongs to the fleet then; None where the cell does not count here. A cell that
        was left out in between is taken for an empty one."""
        me, state = self._own.now, self._state
        if me is None or state is None or batch.cell < me.since:
            return None
        self._batches.begin(me.member, me.since - 1)
        first = self._batches.last(me.member) + 1
        if batch.cell < first:
            return None
        if batch.cell > first + _MOST_WAITING_CELLS:  # this process was halted, for long
            self._end_membership()
            return None
        for cell in range(first, batch.cell):
            self._append(Batch(me.member, cell), now)
        joins = [join for join in self._joins.values() if join.since > batch.cell]
        waits_long = batch.cell > max(state.sealed.cell, me.since - 1) + KEPT_CELLS
        counted = replace(
            batch,
            process=me.member,
            runs={} if waits_long else batch.runs,  # whatever the others do, memory is bounded
            joins=sorted(joins, key=lambda join: join.member),
            killed=self._killed,
        )
        self._killed = []
        self._append(counted, now)
        return counted

    def note_running(self, cell: int, runs: Mapping[RunId, tuple[int, int]]) -> None:
        """Of the running cell: the canary's requests so far, and its faults, excused ones apart; by run."""
        self._outage.note_running(cell, runs)

    def outages(self, since: Mapping[str, int] | None = None) -> list[tuple[RunId, str]]:
        """See `FleetOutage.outages`; `since` None: all that is known counts."""
        return list(self._outage.outages(since or {}))

    def number(self, key: str) -> int:
        """That is in force of a run, from 1."""
        return self._outage.number(key)

    def reset(self, key: str) -> RunId:
        """An operator reset the breaker here: the run begins anew, and everywhere. Returns it."""
        run = RunId(key, self.number(key) + 1)
        self._outage.raise_numbers({key: run.number})
        return run

    # The exchange

    def have(self, lacks: Sequence[str] = ()) -> Have:
        """What to ask with; `lacks`: keys of runs whose states have not come yet after `Taken.took_over`."""
        return Have(
            self._process,
            None if self._state is None else self._state.sealed,
            self._batches.held(),
            {process: running.version for process, running in self._outage.running.items()},
            self._wants_state,
            list(lacks),
        )

    def batch(self, member: str, cell: int) -> Batch | None:
        """That of a member, while it is here."""
        return self._batches.get(member, cell)

    def answer(self, have: Have, now: Moment) -> News:
        """What whoever asks lacks; changes nothing. States of runs are not in it: send those of `have.lacks`,
        and all with `News.state`, beside it. Raises MessageRefused."""
        check_have(have)
        state, batches = self._state, list[Batch]()
        wants_state = have.wants_state and state is not None
        if wants_state:
            batches = self._batches.lacked(have.held, -1)
        elif have.sealed is not None:
            batches = self._batches.lacked(have.held, have.sealed.cell)
        return News(
            process=self._process,
            host=self._own.host,
            member=self._own.member,
            age=now.monotonic - self._started_at,
            clock=now.clock,
            sealed=None if state is None else state.sealed,
            then=None if have.sealed is None else self._sealed.at(have.sealed.cell),
            held=self._batches.held(),
            joins=list(self._joins.values()),
            ends=list(self._ends.ends.values()),
            votes=list(self._ends.votes.values()),
            running=self._outage.newer_than(have.running),
            numbers=dict(self._outage.numbers),
            state=state if wants_state else None,
            batches=batches,
        )

    def take(self, news: News, asked: Moment, now: Moment) -> Taken:
        """Take over what a peer answered to a question that was sent at `asked`. Raises MessageRefused; then
        nothing of it counts."""
        check_news(news)
        if news.process == self._process:
            return Taken()
        shift = self._clocks.measure(news, asked, now, is_member=self._counts())
        if shift:
            self._take_clock(shift, now)
        now = Moment(now.monotonic, now.clock + shift)
        self._outage.merge(news.running, now.cell)
        raised = self._outage.raise_numbers(news.numbers)
        if abs(off := self._clocks.off(news.process)) > CELL_SECONDS:
            self._absences.note(news.gateway, f"its clock is {_seconds(off)}", now)
        if news.sealed is None or self._has_left:
            return Taken(shift, raised=raised)
        if news.sealed.cell > now.cell + MOST_AHEAD_CELLS:
            self._absences.note(news.gateway, "it has sealed cells that are not over yet", now)
            return Taken(shift, raised=raised)
        return Taken(shift, self._take_evidence(news, news.sealed, now), raised)

    def _take_evidence(self, news: News, theirs: SealedAt, now: Moment) -> bool:
        """Returns whether the state was taken over."""
        gives_way = self._gives_way(news, theirs)
        if gives_way is None:
            self._merge(news, now)
        elif gives_way and news.state is not None and self._wants_state:
            self._take_over(news.state, now)
            self._merge(news, now)
            return True
        else:
            self._claims.drop(news.member)
            if gives_way:
                self._wants_state, self._wanted_at = True, now.monotonic
            if self._state is not None:
                why = "it has another state, and one of the two gives way"
                self._absences.note(news.gateway, why, now)
        return False

    def _gives_way(self, news: News, theirs: SealedAt) -> bool | None:
        """Whether the state here gives way to the peer's; None where both are one."""
        mine = self._state or self._restored
        if mine is None:
            return True
        if self._state is None:
            return theirs.requests >= mine.sealed.requests
        for other in (theirs, news.then):
            own = None if other is None else self._sealed.at(other.cell)
            if own is not None and other is not None and own.digest != other.digest:
                return other.precedence > own.precedence
        if theirs.cell - mine.sealed.cell >= KEPT_CELLS:
            # What came in between is not to be had any more: this process was halted, or not reached.
            return theirs.requests >= mine.sealed.requests
        return None

    def _take_over(self, state: FleetState, now: Moment) -> None:
        self._end_membership()
        self._forget_others()
        self._begin_with(state, now)
        for join in (*state.members, *state.pending):
            if join.member in self._own.ids:
                last = max(self._batches.last(join.member), join.since - 1)
                self._ends.ends.setdefault(join.member, MemberEnd(join.member, last, clean=True))
        self._announce(now)

    def _forget_others(self) -> None:
        """Their memberships, of which another state may say otherwise."""
        own = [end for member, end in self._ends.ends.items() if member in self._own.ids]
        self._batches.keep(self._own.ids)
        self._ends = MemberEnds(self._batches.last)
        self._ends.merge(own, ())
        self._claims.clear()
        self._joins, self._left = {}, {}

    def _merge(self, news: News, now: Moment) -> None:
        state = self._state
        assert state is not None
        for join in news.joins:
            latest = now.cell + JOIN_AHEAD_CELLS + MOST_AHEAD_CELLS
            if state.sealed.cell < join.since <= latest and len(self._joins) < MOST_PROCESSES:
                self._joins.setdefault(join.member, join)
                self._silence.begin([join], now.monotonic)
        self._ends.merge([end for end in news.ends if self._is_known(end.member)], news.votes)
        self._follow_votes(now)
        self._claims.note(news, now.monotonic)
        self._take_batches(news, now)

    def _take_batches(self, news: News, now: Moment) -> None:
        state = self._state
        assert state is not None
        since = {join.member: join.since for join in self._joins.values()}
        since.update({join.member: join.since for join in (*state.pending, *state.members)})
        for batch in news.batches:
            member, cell = batch.process, batch.cell
            if cell > now.cell + MOST_AHEAD_CELLS:
                self._absences.note(news.gateway, "it has batches of cells that are not over yet", now)
                continue
            if member in self._own.ids or cell > state.sealed.cell + _MOST_WAITING_CELLS:
                continue
            last, first = self._batches.last(member), since.get(member)
            if last >= 0:
                is_next = cell == last + 1
            else:  # of a member earlier cells are of use too: others may lack them
                is_next = first is not None and first <= cell <= max(first, state.sealed.cell + 1)
            if is_next and self._ends.takes(member, cell, self._deciders(state)):
                self._append(batch, now)

    def _append(self, batch: Batch, now: Moment) -> None:
        self._batches.append(batch)
        self._silence.heard(batch.process, now.monotonic)

    def _take_clock(self, shift: float, now: Moment) -> None:
        """Out of the fleet, and back into it with its clock."""
        why = f"its clock was {_seconds(-shift)}, and is set by the others'"
        self._absences.note(self._own.identity, why, now)
        self._end_membership()
        cell = cell_of(now.clock + shift)
        if self._state is not None and self._state.sealed.cell > cell + MOST_AHEAD_CELLS:
            self._state, self._wants_state = None, True  # of a time that is still to come
            self._forget_others()
        elif self._state is not None:
            self._announce(Moment(now.monotonic, now.clock + shift))

    # What is sealed

    def seal(self, now: Moment) -> Iterator[SealedCell]:
        """Cells that can be sealed now, in order; each is sealed when the iterator yields it. Each second."""
        self._silence.tick(now.monotonic)
        if self._state is None:
            if self._is_started and self._silence.stuck(now.monotonic) > SILENT_SECONDS:
                self._found(first_state(now.cell - 1), now)
            return
        self._vote_out(now)
        while (sealed := self._seal_next(now)) is not None:
            yield sealed
        self._forget(now)

    def _vote_out(self, now: Moment) -> None:
        state = self._state
        assert state is not None
        members, at = self._deciders(state), now.monotonic
        patience, stuck = self._silence.patience(at), self._silence.stuck(at)
        me = self._own.member
        silent = {one for one in members if one != me and self._silence.of(one, at) > patience}
        mine = me in members
        if mine or all(one in silent for one in self._ends.voters(members)):
            for member in silent - self._ends.silent:
                end = self._ends.ends.get(member)
                if end is None or self._batches.last(member) < end.last or stuck > patience:
                    self._ends.silent.add(member)
        self._follow_votes(now)

    def _follow_votes(self, now: Moment) -> None:
        state, me = self._state, self._own.member
        assert state is not None
        members = self._deciders(state)
        if self._ends.follow_votes(members, me, self._is_known):
            self._absences.note(self._own.identity, "the others heard nothing of it for too long", now)
            self._announce(now)
        elif me is not None and me in members:
            self._ends.vote(me)

    def _seal_next(self, now: Moment) -> SealedCell | None:
        state = self._state
        while state is not None:
            if not state.members:
                state = self._without_members(state, now)
                continue
            cell = state.sealed.cell + 1
            batches, left = self._next_batches(state, cell)
            if batches is None or not self._is_shared(state, cell, batches):
                return None
            if left:
                state = self._state = without(state, left)
                self._note_left(left, cell, now)
            if batches:
                self._state, sealed = sealed_with(state, batches)
                self._remember(sealed, now)
                return sealed
        return None

    def _note_left(self, left: Sequence[tuple[Join, bool]], cell: int, now: Moment) -> None:
        for join, clean in left:
            self._left[join.member] = cell
            if not clean and join.member not in self._own.ids:
                self._absences.note_end(gateway_of(join), "it is gone: nothing was heard of it", now)

    def _without_members(self, state: FleetState, now: Moment) -> FleetState | None:
        """Where all have ended: on to the first that joined in time, or else a fleet of one's own."""
        if state.pending:
            self._state = skipped(state)
            self._sealed.add(self._state.sealed)
            return self._state
        if self._has_left:
            return None
        self._found(state, now)
        return self._state

    def _next_batches(
        self, state: FleetState, cell: int
    ) -> tuple[dict[str, Batch] | None, list[tuple[Join, bool]]]:
        """Those of all members, None where one is missing; and who is no member any more in this cell."""
        deciders = self._deciders(state)
        batches, left = {}, []
        for join in state.members:
            limit = self._ends.limit(join.member, deciders)
            if limit.last is not None and cell > limit.last:
                left.append((join, limit.clean))
                continue
            batch = self._batches.get(join.member, cell)
            if batch is None or (limit.last is None and limit.usable is not None and cell > limit.usable):
                return None, []
            batches[join.member] = batch
        return batches, left

    def _is_shared(self, state: FleetState, cell: int, batches: Mapping[str, Batch]) -> bool:
        """Whether somebody else who decides who is gone has what is sealed here, or there is nobody else; or
        whether anybody sealed the cell, who has made sure of the same."""
        others = [one for one in self._ends.voters(self._deciders(state)) if one not in self._own.ids]
        return (
            not others
            or any(self._claims.has_all(one, cell, batches) for one in others)
            or any(one not in self._ends.silent for one in self._claims.ahead_of(cell - 1))
        )

    def _remember(self, sealed: SealedCell, now: Moment) -> None:
        state = self._state
        assert state is not None
        self._sealed.add(state.sealed, sealed)
        self._silence.sealed(now.monotonic)
        self._silence.begin((*state.members, *state.pending), now.monotonic)

    def _forget(self, now: Moment) -> None:
        """What nobody asks for any more; and join anew where the last attempt came to nothing."""
        state = self._state
        if state is None:
            return
        oldest = state.sealed.cell - KEPT_CELLS
        self._joins = {one: join for one, join in self._joins.items() if join.since > state.sealed.cell}
        self._left = {member: cell for member, cell in self._left.items() if cell > oldest}
        current = {join.member for join in (*state.members, *state.pending)} | self._joins.keys()
        self._batches.forget(oldest, current)
        kept = current | self._batches.held().keys() | self._left.keys() | {*self._own.ids}
        self._ends.forget(lambda member: member not in kept)
        self._silence.keep(kept)
        self._claims.forget(current, now.monotonic)
        if now.monotonic - self._wanted_at > _WANTED_SECONDS:
            self._wants_state = False
        me = self._own.now
        if me is None or (not self._counts() and state.sealed.cell >= me.since - 1):
            self._announce(now)

    def sealed_after(self, cell: int, *, alone: bool = False) -> list[SealedCell] | None:
        """Cells that were sealed after `cell` already: for a state of a run that came late. None where some
        of them are forgotten: then the state is too old. `alone` as of `SealedCells.after`."""
        return None if self._state is None else self._sealed.after(cell, alone=alone)

    def state(self) -> FleetState | None:
        """What the members agree on."""
        return self._state

    @property
    def is_oldest(self) -> bool:
        """Whether this gateway is the one that notifies."""
        if self._state is None:
            return False
        return next(iter(self._ends.voters(_members(self._state))), "") == self._own.member

    # For people

    def describe(self, now: Moment) -> FleetView:
        """For people."""
        state = self._state
        if state is None:
            return FleetView(None, [], [], [LeftOut(self._own.host, "it joins")])
        cell, at, waiting = state.sealed.cell + 1, now.monotonic, []
        if now.cell - cell > MOST_AHEAD_CELLS:
            others = [join for join in state.members if join.member not in self._own.ids]
            lacking = [join for join in others if self._batches.get(join.member, cell) is None]
            # Where all batches are here, it is not known yet whether one of the others has them, too.
            waiting = [Waiting(join.host, self._silence.of(join.member, at)) for join in lacking or others]
        ended, joins = self._ends.ends, self._joins.values()
        return fleet_view(state, now, waiting=waiting, ended=ended, joins=joins, absences=self._absences)

    # What is known of members

    def _counts(self) -> bool:
        """Whether this gateway is a member, or will be one for certain."""
        state, me = self._state, self._own.now
        return state is not None and me is not None and me in (*state.members, *state.pending)

    def _deciders(self, state: FleetState) -> list[str]:
        """Who says which members are gone: the members of the next cell. Where none of them is in reach, and
        this gateway is none, whoever went on without them."""
        members = _members(state)
        if self._ends.voters(members):
            return members
        ahead = self._claims.ahead_of(state.sealed.cell)
        return [*members, *sorted(one for one in ahead if one not in members)[:1]]

    def _is_known(self, member: str) -> bool:
        state = self._state
        return (
            self._batches.last(member) >= 0
            or member in self._left
            or member in self._joins
            or (state is not None and any(one.member == member for one in (*state.members, *state.pending)))
        )


def _members(state: FleetState) -> list[str]:
    """Of the next cell, the oldest first."""
    return [join.member for join in state.members]


def _seconds(off: float) -> str:
    return f"{abs(off):.0f} s {'ahead' if off > 0 else 'behind'}"
