"""`canary-router history`: what served whom, who changed it, why, and on what evidence."""

import heapq
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.journal_lines import read_journal, require_model
from router.cli.journal_text import concerns, plain, sentence_of, shares_json, shares_of
from router.cli.times import since, utc_table
from router.core.journal import Entry
from router.core.routing import ModelRoutes
from router.core.utc import utc

MOST_ROWS = 10_000
"""That are kept and shown: the newest."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One thing that happened."""

    at: float
    number: int
    """In the order of reading: two rows of one time keep it."""
    entry: Entry = field(compare=False)
    what: str = field(compare=False)
    routes: ModelRoutes | None = field(compare=False)
    """In force afterwards; None: not served, or not known."""
    changed: bool = field(compare=False)
    """Whether they differ from those before."""


@dataclass(frozen=True, slots=True)
class _Serving:
    """The process that writes to a chain, and what it serves."""

    gateway: str
    routes: ModelRoutes | None
    last: float
    """Time of its last line."""


@dataclass(slots=True)
class History:
    """What the journals say of one model from a time on."""

    model: str
    begin: float
    """Seconds since 1970."""
    rows: list[Row] = field(default_factory=list)
    """A heap: the oldest goes first."""
    left_out: int = 0
    """Rows that were older than those that are kept."""
    before: dict[str, ModelRoutes] = field(default_factory=dict)
    """By gateway: in force when the time begins."""
    began: float | None = None
    """Time of the oldest line."""
    models: set[str] = field(default_factory=set)
    gateways: set[str] = field(default_factory=set)

    def take_all(self, entries: Iterable[tuple[Entry, int]]) -> None:
        """Take every entry, with the number of its chain."""
        serving: dict[int, _Serving | None] = {}
        for number, (entry, chain) in enumerate(entries):
            self.began = entry.at if self.began is None else min(entry.at, self.began)
            self.models.update(entry.table)
            serving[chain] = self._take(entry, number, serving.get(chain))

    def _take(self, entry: Entry, number: int, former: _Serving | None) -> _Serving | None:
        """Take a line of the chain to which `former` wrote; returns who serves after it, if anybody."""
        # One process writes to a chain: what another one had before it is over, and so is that of a former
        # process of the same name.
        lost = None
        if former is not None and (former.gateway != entry.gateway or entry.cause == "start"):
            lost, former = former, None
        before = former.routes if former is not None else None
        after = entry.table.get(self.model, None if self.model in entry.gone else before)
        if entry.cause == "stop":
            after = None
        if entry.at < self.begin:
            if lost is not None:
                self.before.pop(lost.gateway, None)
            self.before.pop(entry.gateway, None)
            if after is not None:
                self.before[entry.gateway] = after
        elif concerns(entry, self.model):
            what = sentence_of(entry, self.model, before)
            if lost is not None:
                what += f"; {lost.gateway} ended without a line after {utc_table(lost.last)}"
            self.gateways.add(entry.gateway)
            self._keep(Row(entry.at, number, entry, what, after, changed=after != before))
        return None if entry.cause == "stop" else _Serving(entry.gateway, after, entry.at)

    def _keep(self, row: Row) -> None:
        if len(self.rows) < MOST_ROWS:
            heapq.heappush(self.rows, row)
        else:
            heapq.heappushpop(self.rows, row)
            self.left_out += 1


def show_history(config_path: Path, model: str, since_text: str, output: str, given: Sequence[Path]) -> int:
    """Print it; returns 0, or 3 when there is no journal that can be read."""
    now = time.time()
    try:
        begin = since(since_text, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    history = History(model, begin)
    if not read_journal(config_path, given, history.take_all):
        return 3
    require_model(model, history.models)
    if output == "json":
        click.echo(orjson.dumps(_document(history), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(history, now)
    return 0


def _document(history: History) -> dict[str, Any]:
    return {
        "model": history.model,
        "since": history.begin,
        "journal_begins": history.began,
        "left_out": history.left_out,
        "before": {gateway: shares_json(routes) for gateway, routes in sorted(history.before.items())},
        "changes": [
            {
                "timestamp": row.at,
                "time": utc(row.at),
                "gateway": row.entry.gateway,
                "cause": row.entry.cause,
                "what": row.what,
                "details": dict(row.entry.details),
                "in_force": shares_json(row.routes),
            }
            for row in sorted(history.rows)
        ],
    }


def _print(history: History, now: float) -> None:
    console = Console()
    rows = sorted(history.rows)
    table = Table(
        title=f"{escape(plain(history.model))} from {utc(history.begin, 'seconds')} to {utc(now, 'seconds')}"
    )
    # One that was started anew is named in the lines about that; those of other machines are in every line.
    several = len({name.rpartition(":")[0] for name in (*history.gateways, *history.before)}) > 1
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("what happened", ratio=3)
    table.add_column("in force from then on", ratio=2)
    for gateway, routes in sorted(history.before.items()):
        what = f"{gateway}: in force already" if several else "in force already"
        table.add_row(utc_table(history.begin), escape(plain(what)), _cell(routes))
    for row in rows:
        what = row.what
        if several and row.entry.gateway not in what:
            what = f"{row.entry.gateway}: {what}"
        table.add_row(utc_table(row.at), escape(plain(what)), _cell(row.routes) if row.changed else "")
    console.print(table)
    for line in _notes(history):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cell(routes: ModelRoutes | None) -> str:
    return escape("\n".join(map(plain, shares_of(routes))))


def _notes(history: History) -> list[str]:
    lines = []
    if not history.rows:
        lines.append("Nothing changed in this time.")
    if history.left_out:
        lines.append(f"{history.left_out} older lines are left out: ask for less with --since.")
    if history.began is not None and history.began > history.begin:
        lines.append(f"The journal begins at {utc(history.began, 'seconds')}.")
    return lines
