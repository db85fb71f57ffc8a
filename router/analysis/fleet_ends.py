"""When a membership is over: by its own word, or because all in reach hear nothing of it any more. Pure.

A member that has heard nothing of another one for too long votes that it is silent, says how much it has of
it, and takes no more. A vote is never taken back, and everybody who sees one of somebody in reach votes too.
Once all in reach have voted, the membership is over after the newest cell that any of them has. Nobody seals
a later cell with it: who did so before it voted has said so by its vote.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from router.analysis.fleet_messages import Held, MemberEnd, Vote


class Limit(NamedTuple):
    """Which of a member's batches are waited for."""

    last: int | None
    """None: no end is in sight. Else none after this cell is."""
    clean: bool
    usable: int | None = None
    """None: all that are there may be sealed. Else none after this cell may yet."""


class MemberEnds:
    """Ends and votes, as far as this gateway knows them."""

    def __init__(self, held: Callable[[str], int]) -> None:
        """`held`: the newest cell of a member of which its batch is here, and those of all before."""
        self._held = held
        self.ends: dict[str, MemberEnd] = {}
        """By member."""
        self.votes: dict[str, Vote] = {}
        """The newest of each voter."""
        self.silent: set[str] = set()
        """Members from whom nothing counts any more but what somebody in reach has already."""

    def voters(self, members: Iterable[str]) -> list[str]:
        """Those in reach, who decide."""
        return [one for one in members if one not in self.silent and one not in self.ends]

    def merge(self, ends: Iterable[MemberEnd], votes: Iterable[Vote]) -> None:
        """Take over what another gateway knows."""
        for end in ends:
            self.ends.setdefault(end.member, end)
        for vote in votes:
            known = self.votes.get(vote.voter)
            if known is None or known.version < vote.version:
                self.votes[vote.voter] = vote

    def follow_votes(self, members: Sequence[str], me: str | None, known: Callable[[str], bool]) -> bool:
        """Take over from whom others in reach hear nothing. Returns whether one of these is `me`."""
        changed = True
        while changed:
            changed = False
            for voter in self.voters(members):
                vote = self.votes.get(voter)
                if voter == me or vote is None:
                    continue
                for member in vote.silent:
                    if member not in self.silent and (member == me or known(member)):
                        self.silent.add(member)
                        changed = True
        return me is not None and me in self.silent

    def vote(self, me: str) -> None:
        """Say from whom nothing is heard, and how much is here of each."""
        before = self.votes.get(me, Vote(me, 0, {}))
        if before.silent.keys() == self.silent:
            return
        silent = {}
        for member in sorted(self.silent):
            held, end, said = self._held(member), self.ends.get(member), before.silent.get(member)
            if said is not None:  # an end that is heard of later may come too late for others
                silent[member] = Held(max(held, said.last), said.clean)
            else:
                silent[member] = Held(held, None if end is None else end.clean)
        self.votes[me] = Vote(me, before.version + 1, silent)

    def limit(self, member: str, members: Sequence[str]) -> Limit:
        """Of one of `members`, which are those of the next cell."""
        if member not in self.silent:
            end = self.ends.get(member)
            return Limit(None, clean=True) if end is None else Limit(end.last, end.clean)
        words = [
            held
            for voter in members
            if voter not in self.silent and voter in self.votes
            if (held := self.votes[voter].silent.get(member)) is not None
        ]
        clean = any(held.clean for held in words)
        newest = max((held.last for held in words), default=None)
        voters = self.voters(members)
        silent = self.silent.intersection(members)
        if all(voter in self.votes and silent <= self.votes[voter].silent.keys() for voter in voters):
            return Limit(self._held(member) if newest is None else newest, clean)
        return Limit(None, clean, usable=-1 if newest is None else newest)

    def takes(self, member: str, cell: int, members: Sequence[str]) -> bool:
        """Whether a batch of `member` is still of use."""
        if member not in self.silent:
            return True
        limit = self.limit(member, members)
        last = limit.last if limit.last is not None else limit.usable
        return last is not None and cell <= last

    def forget(self, is_over: Callable[[str], bool]) -> None:
        """Drop what is known of members that are over for so long that nobody asks."""
        for member in [one for one in self.ends if is_over(one)]:
            del self.ends[member]
        for voter in [one for one in self.votes if is_over(one)]:
            del self.votes[voter]
        self.silent = {member for member in self.silent if not is_over(member)}
