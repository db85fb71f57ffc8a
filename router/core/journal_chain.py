"""Whether a chain of journal lines is whole: each holds the digest of the one before. Pure.

A changed line no longer has the digest that the next one names; likewise where lines are missing, were put in
or have changed places. The last line is named by none: only a head that was kept elsewhere shows that it is
the one that was written.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from router.core.journal import BEGINNING, RESUMED, DamagedLine, Entry, decode, digest_of

JOINS = ("start", *RESUMED)
"""Causes of lines with which a gateway begins to write to a state directory."""
MOST_SENTENCES = 1000
"""Of each kind in a report."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal file, or the line that a gateway's log repeats."""

    source: str
    """The file's name."""
    number: int
    """Of the line in its file, from 1."""
    raw: bytes
    """Without its end."""
    torn: bool = False
    """True for what stands after the last line end of a file."""
    logged_digest: str | None = None
    """The digest that the log gives with the line; None in a journal file."""

    def __str__(self) -> str:
        return f"{self.source}:{self.number}"


class Follows(StrEnum):
    """How a line stands to those before it."""

    THE_LAST = "the_last"
    NOTHING = "nothing"
    """It is the first of a chain."""
    UNSEEN = "unseen"
    """It follows a line that was not there, and its gateway is new: older lines are gone."""
    JOINS = "joins"
    """It follows the last line in a state directory, where that of its gateway before it is not."""
    ANOTHER = "another"
    """It does not follow the last line of its gateway."""


class Chains:
    """Sorts lines by their chain, where several are mixed as in a log of several gateways."""

    def __init__(self) -> None:
        self._heads: dict[int, str] = {}
        self._by_head: dict[str, int] = {}
        self._by_gateway: dict[str, int] = {}

    @property
    def heads(self) -> list[str]:
        """Digest of the last line of each chain, the chain that was found first at the front."""
        return list(self._heads.values())

    def place(self, prev: str, digest: str, entry: Entry) -> tuple[int, Follows]:
        """The number of the chain of a line, and how it stands to the line before it there."""
        gateway = entry.gateway
        chain, follows = self._by_head.get(prev), Follows.THE_LAST
        if chain is None and entry.cause in JOINS and (prev != BEGINNING or gateway in self._by_gateway):
            # Its lines before, if there are any, were not kept; from here on they follow those that were.
            chain, follows = self._by_gateway.get(gateway, len(self._heads)), Follows.JOINS
        elif chain is None:
            known = None if prev == BEGINNING else self._by_gateway.get(gateway)
            chain = len(self._heads) if known is None else known
            missing = Follows.NOTHING if prev == BEGINNING else Follows.UNSEEN
            follows = missing if known is None else Follows.ANOTHER
        if (former := self._heads.get(chain)) is not None:
            self._by_head.pop(former, None)
        self._heads[chain], self._by_head[digest], self._by_gateway[gateway] = digest, chain, chain
        return chain, follows


@dataclass(slots=True)
class Report:
    """What `ChainCheck` found."""

    damage: list[str] = field(default_factory=list)
    """Sentences that begin with file and line; the first thousand."""
    damaged: int = 0
    """How many there are in all."""
    notices: list[str] = field(default_factory=list)
    """What is no damage: where a chain begins, a last line that was not written whole."""
    lines: int = 0
    first_at: float | None = None
    """Smallest and largest time of all lines, in seconds since 1970."""
    last_at: float | None = None
    heads: list[str] = field(default_factory=list)
    """Digest of the last line of each chain."""
    found: dict[str, str] = field(default_factory=dict)
    """Of each digest that was to be looked for and occurs: file and line."""

    def count(self, entry: Entry | None) -> None:
        """Count a line, and its time where it can be read."""
        self.lines += 1
        if entry is not None:
            self.first_at = entry.at if self.first_at is None else min(entry.at, self.first_at)
            self.last_at = entry.at if self.last_at is None else max(entry.at, self.last_at)

    def damage_at(self, line: Line, sentence: str) -> None:
        """Note damage."""
        self.damaged += 1
        if len(self.damage) < MOST_SENTENCES:
            self.damage.append(f"{line}: {sentence}")

    def notice_at(self, line: Line, sentence: str) -> None:
        """Note what is no damage."""
        if len(self.notices) < MOST_SENTENCES:
            self.notices.append(f"{line}: {sentence}")


@dataclass(frozen=True, slots=True)
class _Link:
    line: Line
    digest: str
    prev: str | None
    """None: the line can not be read."""


class ChainCheck:
    """Takes lines of journal files and logs in their order, and reports where a chain is not whole.

    Lines of files follow each other, also from one file to the next; those of logs follow the last one of
    their chain.
    """

    def __init__(self, heads: Iterable[str] = ()) -> None:
        """`heads` are digests, or beginnings of digests, that are to be looked for."""
        self._report = Report()
        self._wanted = frozenset(heads)
        self._before: _Link | None = None
        self._last: _Link | None = None
        self._torn: _Link | None = None
        self._broken: tuple[_Link, _Link] | None = None
        """The last two, where the second does not follow the first: what comes next may show why."""
        self._logged = Chains()
        self._former_heads: list[str] = []

    def take(self, line: Line) -> None:
        """The next line."""
        digest = line.logged_digest or digest_of(line.raw)
        entry, prev, why = None, None, ""
        try:
            entry, prev = decode(line.raw)
        except DamagedLine as error:
            why = str(error)
        self._look_for(digest, str(line))
        if line.torn and line.logged_digest is None:
            self._torn = _Link(line, digest, prev)
            return
        self._report.count(entry)
        if entry is None or prev is None:
            self._report.damage_at(line, why)
        if line.logged_digest is None:
            self._take_filed(_Link(line, digest, prev))
        elif entry is not None and prev is not None:
            self._take_logged(line, prev, digest, entry)

    def end(self) -> Report:
        """The report, when all lines were taken."""
        self._report_broken()
        self._report_torn()
        heads = [] if self._last is None else [self._last.digest]
        self._report.heads = [*self._former_heads, *heads, *self._logged.heads]
        return self._report

    def _look_for(self, digest: str, where: str) -> None:
        for wanted in self._wanted:
            if digest.startswith(wanted):
                self._report.found.setdefault(wanted, where)

    def _take_logged(self, line: Line, prev: str, digest: str, entry: Entry) -> None:
        if digest != digest_of(line.raw):
            self._report.damage_at(line, "its content is not what its digest stands for: it was changed")
        if digest in self._logged.heads:
            return  # logs are copied with overlaps
        others = bool(self._logged.heads)
        _, follows = self._logged.place(prev, digest, entry)
        if follows is Follows.UNSEEN or (follows is Follows.JOINS and prev != BEGINNING):
            self._begins_within(line, prev)
        elif follows is Follows.NOTHING and others:
            self._report.notice_at(line, f"another chain begins here, by {entry.gateway}")
        elif follows is Follows.ANOTHER:
            sentence = (
                f"it does not follow the last line of {entry.gateway}: one was changed, or some are missing"
            )
            self._report.damage_at(line, sentence)

    def _take_filed(self, link: _Link) -> None:
        last = self._last
        if self._torn is not None and link.prev == self._torn.digest:
            # It was written whole, and only its end was taken away.
            self._report.damage_at(self._torn.line, "the end of this line is missing")
            last, self._torn = self._torn, None
        self._report_torn()
        if last is None:
            if link.prev not in (None, BEGINNING):
                self._begins_within(link.line, str(link.prev))
            self._last = link
        elif link.prev in (None, last.digest):
            self._report_broken()
            self._before, self._last = last, link
        else:
            self._take_stray(link, last)

    def _take_stray(self, link: _Link, last: _Link) -> None:
        """`link` follows another line than `last`, which stands before it."""
        before, broken = self._before, self._broken
        if link.digest == last.digest:
            self._report.damage_at(link.line, "it repeats the line before it")
            return
        if before is not None and link.prev == before.digest:
            self._broken = None
            if broken is not None and last.prev == link.digest:
                self._report.damage_at(last.line, f"this line and {link.line} have changed places")
                self._before = link
                return
            if last.prev is not None:
                self._report.damage_at(last.line, f"it was put in: {link.line} follows the line before it")
            self._last = link
            return
        self._report_broken()
        if link.prev == BEGINNING and link.line.number == 1:
            sentence = "another chain begins here: nothing ties it to the lines before, some may be lost"
            self._report.notice_at(link.line, sentence)
            self._former_heads.append(last.digest)
        elif last.prev is not None:
            self._broken = last, link
        self._before, self._last = last, link

    def _begins_within(self, line: Line, prev: str) -> None:
        self._look_for(prev, f"{line}, as the line before it")
        self._report.notice_at(
            line, "a chain begins here in its middle: the lines before are in none of these files"
        )

    def _report_broken(self) -> None:
        if self._broken is not None:
            (last, link), self._broken = self._broken, None
            sentence = f"{link.line} does not follow it: it was changed, or lines between them are missing"
            self._report.damage_at(last.line, sentence)

    def _report_torn(self) -> None:
        if self._torn is not None:
            sentence = "this last line was not written whole, and counts as not written"
            self._report.notice_at(self._torn.line, sentence)
            self._torn = None
