"""`canary-router journal verify`: whether the chain of a journal is whole."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from router.cli.journal_lines import NoJournal, files_of, lines_of
from router.cli.journal_text import plain
from router.core.journal_chain import ChainCheck, Report
from router.core.utc import utc

_DIGEST = re.compile(r"[0-9a-f]{12,64}")


def verify_chain(config_path: Path, given: Sequence[Path], heads: Sequence[str]) -> int:
    """Print what is found; returns 0 when it is whole, 1 when not, 3 without a journal."""
    for head in heads:
        if not _DIGEST.fullmatch(head):
            raise click.BadParameter(f"{head!r} is not 12 to 64 hexadecimal digits", param_hint="--head")
    check = ChainCheck(heads)
    try:
        files = files_of(config_path, given)
        for line in lines_of(files):
            check.take(line)
    except NoJournal as error:
        click.echo(str(error), err=True)
        return 3
    report = check.end()
    for sentence in report.notices:
        click.echo(plain(sentence))
    if not report.lines:
        click.echo(f"no line of a journal in {', '.join(map(str, files))}", err=True)
        return 3
    missing = [head for head in heads if head not in report.found]
    for head in heads:
        if head in report.found:
            click.echo(f"head {head} is {report.found[head]}")
        else:
            click.echo(f"head {head} does not occur: another chain was written, or its lines are gone")
    for sentence in report.damage:
        click.echo(plain(f"damaged: {sentence}"))
    if report.damaged > len(report.damage):
        click.echo(f"damaged: {report.damaged - len(report.damage)} more places")
    click.echo(_summary(report, len(set(files)), whole=not report.damaged and not missing))
    return 1 if report.damaged or missing else 0


def _summary(report: Report, files: int, *, whole: bool) -> str:
    counted = f"{report.lines} line{'s' if report.lines != 1 else ''}"
    where = f"{counted} in {files} file{'s' if files != 1 else ''}"
    if report.first_at is not None and report.last_at is not None:
        where += f" from {utc(report.first_at, 'seconds')} to {utc(report.last_at, 'seconds')}"
    return f"{'whole' if whole else 'NOT WHOLE'}: {where}; head {', '.join(report.heads)}"
