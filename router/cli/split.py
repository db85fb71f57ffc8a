"""`canary-router split`: change one number in the configuration."""

from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from router.adapters.config.edit import edit_split


def edit(config_path: Path, model: str, percent: str) -> int:
    """Edit the file, print the difference; returns the exit code."""
    try:
        share = Decimal(percent)
    except InvalidOperation:
        raise click.UsageError(f"PERCENT is a number such as 5 or 0.125, not {percent!r}") from None
    diff = edit_split(config_path, model, share)
    click.echo(diff or f"{model}: the canary has {percent} % already; nothing changed", nl=not diff)
    return 0
