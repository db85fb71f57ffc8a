"""What other gateways said they have. Pure."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from router.analysis.fleet_messages import News

_COUNTS_SECONDS = 60.0
"""So long that of a gateway counts which is no member."""


class _Claim(NamedTuple):
    at: float
    """When it said so, by the monotonic clock."""
    sealed: int
    """Newest sealed cell."""
    held: Mapping[str, int]
    """Newest cell of each member, with all before."""


class Claims:
    """By member. A later answer that says less, because it was on the way for longer, takes nothing back."""

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}

    def note(self, news: News, now: float) -> None:
        """What `news` says, which is of the same state as this gateway's; `now` by the monotonic clock."""
        if news.member is not None and news.sealed is not None:
            before = self._claims.get(news.member, _Claim(0.0, -1, {}))
            held = {one: max(last, before.held.get(one, -1)) for one, last in news.held.items()}
            self._claims[news.member] = _Claim(now, max(before.sealed, news.sealed.cell), held)

    def drop(self, member: str | None) -> None:
        """It has another state."""
        if member is not None:
            self._claims.pop(member, None)

    def clear(self) -> None:
        """This gateway has another state."""
        self._claims.clear()

    def ahead_of(self, cell: int) -> Iterator[str]:
        """Who sealed more than that."""
        return (member for member, claim in self._claims.items() if claim.sealed > cell)

    def has_all(self, member: str, cell: int, members: Collection[str]) -> bool:
        """Whether it has the batches of all `members` up to `cell`."""
        claim = self._claims.get(member)
        return claim is not None and all(claim.held.get(one, -1) >= cell for one in members)

    def forget(self, members: Collection[str], now: float) -> None:
        """Drop old ones of others than `members`."""
        self._claims = {
            member: claim
            for member, claim in self._claims.items()
            if member in members or now - claim.at <= _COUNTS_SECONDS
        }
