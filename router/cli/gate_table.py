"""A report of the gate as a terminal shows it."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.compare import SYMBOLS, verdict_line
from router.gate.report import GateReport, HoldoutResult

_SYMBOLS: Mapping[str, str] = {**SYMBOLS, "not_checked": "– not checked"}
_COLOURS: Mapping[str, str] = {
    "pass": "green",
    "fail": "red",
    "not_enough_data": "yellow",
    "not_checked": "dim",
}


def print_report(report: GateReport, console: Console) -> None:
    """Each check, the figures of the hold-out, and the verdict last, where the eye is."""
    console.print(_checks(report))
    if report.holdout is not None:
        console.print(_figures(report.holdout))
    line = f"{report.of.version}: {verdict_line(report.verdict.value, report.why)}"
    console.print(line, style=_COLOURS[report.verdict.value], markup=False, highlight=False, soft_wrap=True)


def _checks(report: GateReport) -> Table:
    table = Table(title=f"{escape(str(report.of.version))} against v{report.against}")
    for heading in ("check", "", "why"):
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        outcome = finding.outcome.value
        why = "\n".join((finding.why, *(f"· {note}" for note in finding.notes)))
        table.add_row(finding.check, f"[{_COLOURS[outcome]}]{_SYMBOLS[outcome]}[/]", escape(why))
    return table


def _figures(holdout: HoldoutResult) -> Table:
    difference = holdout.difference
    groups = "" if difference.groups is None else f" in {difference.groups:,} groups"
    better = "more is better" if difference.greater_is_better else "less is better"
    table = Table(title=f"{escape(difference.metric)}, {better}: {difference.rows:,} rows{groups}")
    for heading in ("candidate", "production", "better by", "95 % interval", "method"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    table.add_row(
        f"{difference.candidate:.4g}",
        f"{difference.production:.4g}",
        f"{difference.point:+.4g}",
        f"{difference.low:+.4g} … {difference.high:+.4g}",
        difference.method.value,
    )
    return table
