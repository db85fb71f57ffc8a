"""The memberships of this process in its fleet, one after the other. Pure."""

from collections import deque
from hashlib import blake2b

from router.analysis.fleet_messages import MOST_NAME
from router.analysis.statistics.records import Join
from router.core.ids import GatewayId

_REMEMBERED = 16


class OwnMembership:
    """Which membership this process has now, and which it had."""

    def __init__(self, this: GatewayId) -> None:
        self._process = this.process
        self._count = 0
        self.host = "".join(one if one.isprintable() else "?" for one in this.host)[:MOST_NAME]
        self.identity = GatewayId(self._process, self.host)
        """As others know it."""
        self.now: Join | None = None
        """None while nothing that is observed here counts."""
        self.ids: deque[str] = deque(maxlen=_REMEMBERED)
        """Of the newest ones, which others may still know."""

    @property
    def member(self) -> str | None:
        """The id of the present one."""
        return None if self.now is None else self.now.member

    def begin(self, since: int) -> Join:
        """Another one, from the cell `since` on.

        It has an id of its own: what is said of a former one is not said of this one. That of the first is
        the process's.
        """
        member = self._process
        if self._count:
            member = blake2b(f"{self._process} {self._count}".encode(), digest_size=8).hexdigest()
        self._count += 1
        self.ids.append(member)
        self.now = Join(member, self._process, self.host, since)
        return self.now
