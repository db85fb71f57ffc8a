"""The batches of all members that are sealed next, or were a short while ago. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from router.analysis.statistics.records import Batch


@dataclass(slots=True)
class _Log:
    """Of one member, without a gap."""

    last: int
    """Newest cell; the one before the first while there is none."""
    batches: dict[int, Batch] = field(default_factory=dict)


class MemberBatches:
    """Each member's batches in the order of their cells: one comes in only where it is the next one."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}

    def held(self) -> dict[str, int]:
        """Newest cell of each member of which its batch is here, and those of all before."""
        return {member: log.last for member, log in self._logs.items()}

    def last(self, member: str) -> int:
        """The same of one member; -1 where nothing of it is here."""
        log = self._logs.get(member)
        return -1 if log is None else log.last

    def get(self, member: str, cell: int) -> Batch | None:
        """One of them."""
        log = self._logs.get(member)
        return None if log is None else log.batches.get(cell)

    def begin(self, member: str, last: int) -> None:
        """The next one of `member` is that after `last`, unless something of it is here."""
        self._logs.setdefault(member, _Log(last))

    def append(self, batch: Batch) -> None:
        """That of a member's next cell; the first one of a member may be any."""
        log = self._logs.setdefault(batch.process, _Log(batch.cell - 1))
        assert batch.cell == log.last + 1
        log.batches[batch.cell] = batch
        log.last = batch.cell

    def lacked(self, held: Mapping[str, int], newest: int) -> list[Batch]:
        """Those that somebody lacks who has `held`, and of others all up to the cell `newest`; by cell."""
        lacked = [
            batch
            for member, log in self._logs.items()
            if log.last > held.get(member, newest)
            for cell, batch in log.batches.items()
            if cell > held.get(member, newest)
        ]
        return sorted(lacked, key=lambda batch: (batch.cell, batch.process))

    def keep(self, members: Collection[str]) -> None:
        """Drop what is of others."""
        self._logs = {member: log for member, log in self._logs.items() if member in members}

    def forget(self, oldest: int, current: Collection[str]) -> None:
        """Drop cells up to `oldest`, and members that are not current and have no others."""
        for member, log in list(self._logs.items()):
            for cell in [cell for cell in log.batches if cell <= oldest]:
                del log.batches[cell]
            if not log.batches and member not in current:
                del self._logs[member]
