"""What all members of a fleet agree on, and how it follows from the batches of each sealed cell. Pure.

Two gateways that seal the same batches in the same order have equal states: who joins, whose unclean end
counts and which number of a run is in force is said in batches, and in nothing else.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import astuple

from router.analysis.fleet_messages import HISTORY_CELLS, MOST_PROCESSES, MOST_RUNS, FleetState, SealedAt
from router.analysis.statistics.records import Batch, Join, RunCell, RunId

JOIN_AHEAD_CELLS = 6
"""So far ahead a new member announces its first cell: until then a batch of somebody else has to name it."""
KEPT_CELLS = 24
"""Sealed cells whose batches are kept, for those that do not have them yet; and cells of one member that may
wait for being sealed."""
_LONGEST_AHEAD_CELLS = 2 * KEPT_CELLS
_encode = msgspec.msgpack.Encoder().encode
_OF_NUMBERS = frozenset((int, list))
"""Of values in mappings: numbers, and rows of them."""


@dataclass(frozen=True, slots=True)
class SealedCell:
    """A cell that is over for ever: fold it, once, in the order in which they come."""

    cell: int
    """Not always the next one: there is none of a cell in which nobody was a member."""
    batches: Mapping[str, Batch]
    """By member, in the order of their ids."""
    runs: Mapping[RunId, Sequence[RunCell]]
    """What counts in it, by run, in the same order; members that had nothing of a run are missing there. A
    number that is higher than before begins a run anew, and the former is over."""
    killed: Sequence[str]
    """Hosts of gateways whose unclean end counts from this cell on, in all runs. Those of this gateway's own
    predecessors are among them, and need no other way."""


class SealedCells:
    """The newest sealed cells: 24 as they were, and the digests of 60."""

    def __init__(self) -> None:
        self._at: dict[int, SealedAt] = {}
        self._cells: deque[SealedCell] = deque(maxlen=KEPT_CELLS)
        self._forgotten = -1
        """Newest one that is not among the 24 any more."""
        self._first = -1
        """After the state of this cell came the first of all."""

    def begin(self, sealed: SealedAt, *, is_first: bool) -> None:
        """Another state, of which nothing before is known; `is_first`: because there was nothing."""
        self._at = {sealed.cell: sealed}
        self._cells.clear()
        self._forgotten = sealed.cell
        self._first = sealed.cell if is_first else -1

    def add(self, sealed: SealedAt, cell: SealedCell | None = None) -> None:
        """The next one; None where cells were skipped."""
        self._at[sealed.cell] = sealed
        for old in [one for one in self._at if one <= sealed.cell - HISTORY_CELLS]:
            del self._at[old]
        if cell is not None:
            if len(self._cells) == KEPT_CELLS:
                self._forgotten = self._cells[0].cell
            self._cells.append(cell)

    def at(self, cell: int) -> SealedAt | None:
        """What was sealed up to `cell`; None where that is not known."""
        return self._at.get(cell)

    def after(self, cell: int, *, alone: bool) -> list[SealedCell] | None:
        """Those after `cell`; None where some of them are forgotten.

        `alone`: only this gateway judges. Then a state from before the first cell lacks none but these.
        """
        since = max(cell, self._first) if alone else cell
        return None if since < self._forgotten else [one for one in self._cells if one.cell > cell]


def first_state(cell: int, requests: int = 0, numbers: Mapping[str, int] | None = None) -> FleetState:
    """Of nobody, as of `cell`."""
    digest = blake2b(b"no members", digest_size=16).digest()
    return FleetState(SealedAt(cell, digest, requests), [], [], dict(numbers or {}), [])


def founded(state: FleetState, founder: Join) -> FleetState:
    """A fleet that goes on from `state` with `founder`, once its last member has ended. Nobody else's state
    has the digests of this one."""
    sealed = msgspec.structs.replace(state.sealed, digest=_digest(state.sealed.digest, founder, ()))
    return msgspec.structs.replace(state, sealed=sealed, pending=[founder])


def skipped(state: FleetState) -> FleetState:
    """Nobody is a member: on to the cell before the first of those that will be."""
    since = min(join.since for join in state.pending)
    sealed = msgspec.structs.replace(state.sealed, cell=max(state.sealed.cell, since - 1))
    return _with_members(msgspec.structs.replace(state, sealed=sealed))


def without(state: FleetState, left: Iterable[tuple[Join, bool]]) -> FleetState:
    """Without the memberships in `left`, each with whether it ended cleanly."""
    left = list(left)
    gone = {join.member for join, _ in left}
    unclean = [join for join, clean in left if not clean]
    return msgspec.structs.replace(
        state,
        members=[join for join in state.members if join.member not in gone],
        killed=[*state.killed, *(join.process for join in unclean)][-MOST_PROCESSES:],
        due=[*state.due, *(join.host for join in unclean)][-MOST_PROCESSES:],
    )


def sealed_with(state: FleetState, batches: Mapping[str, Batch]) -> tuple[FleetState, SealedCell]:
    """The next cell, with the batch of each member."""
    cell = state.sealed.cell + 1
    batches = dict(sorted(batches.items()))
    numbers, runs = _runs(state.numbers, batches.values())
    killed, due = list(state.killed), list(state.due)
    known = {join.member for join in (*state.members, *state.pending)}
    pending = list(state.pending)
    for batch in batches.values():
        for ended in batch.killed:
            if ended.process not in killed:
                killed.append(ended.process)
                due.append(ended.host)
        for join in batch.joins:
            in_time = cell < join.since <= cell + _LONGEST_AHEAD_CELLS
            if in_time and join.member not in known and len(known) < MOST_PROCESSES:
                known.add(join.member)
                pending.append(join)
    requests = sum(_requests(one) for batch in batches.values() for _, one in batch.runs.values())
    after = FleetState(
        SealedAt(
            cell, _digest(state.sealed.digest, cell, batches.values()), state.sealed.requests + requests
        ),
        list(state.members),
        pending,
        numbers,
        killed[-MOST_PROCESSES:],
    )
    return _with_members(after), SealedCell(cell, batches, runs, tuple(due))


def _with_members(state: FleetState) -> FleetState:
    """Those whose first cell is the next one are members from now on."""
    begun = [join for join in state.pending if join.since <= state.sealed.cell + 1]
    members = sorted((*state.members, *begun), key=lambda join: (join.since, join.member))
    pending = [join for join in state.pending if join.since > state.sealed.cell + 1]
    return msgspec.structs.replace(state, members=members, pending=pending)


def _runs(
    before: Mapping[str, int], batches: Iterable[Batch]
) -> tuple[dict[str, int], Mapping[RunId, Sequence[RunCell]]]:
    """Numbers in force after a cell, and what counts in it."""
    batches = list(batches)
    numbers = dict(before)
    for key in sorted({key for batch in batches for key in batch.runs}):
        said = (batch.runs[key][0] for batch in batches if key in batch.runs)
        numbers[key] = max(numbers.pop(key, 1), *said)
    while len(numbers) > MOST_RUNS:
        del numbers[next(iter(numbers))]
    runs: dict[RunId, list[RunCell]] = {}
    for batch in batches:
        for key, (number, cell) in batch.runs.items():
            if number == numbers.get(key):
                runs.setdefault(RunId(key, number), []).append(cell)
    return numbers, dict(sorted(runs.items(), key=lambda item: item[0].key))


def _requests(cell: RunCell) -> int:
    return sum(record.production.requests + record.canary.requests for record in cell.records)


def _digest(before: bytes, what: object, batches: Iterable[Batch]) -> bytes:
    digest = blake2b(before, digest_size=16)
    digest.update(_encode(_canonical(what)))
    for batch in batches:
        digest.update(_encode(_canonical(batch)))
    return digest.digest()


def _canonical(value: Any) -> Any:
    """The same in lists alone, those of what has no order of its own ascending."""
    if isinstance(value, msgspec.Struct):
        return [_canonical(item) for item in astuple(value)]
    if isinstance(value, Mapping):
        # What is counted by bin or by group is numbers already, and there is much of it.
        counts = all(map(_OF_NUMBERS.__contains__, map(type, value.values())))
        items = sorted(value.items())
        return items if counts else [[key, _canonical(item)] for key, item in items]
    if isinstance(value, set | frozenset):
        return sorted(value)
    return [_canonical(item) for item in value] if isinstance(value, list | tuple) else value
