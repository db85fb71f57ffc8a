"""`canary-router why MODEL`: what the faults of each canary share that its good answers do not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.client import Unreachable, ask, gateway_address
from router.cli.journal_text import plain

_EXIT = {"pattern": 1, "few_faults": 4, "few_good_answers": 4, "no_pattern": 0, "off": 2}
"""By finding. Bad news is what can be repaired: it goes before what is not known."""
_UNKNOWN = 4
_WORST_FIRST = (1, 4, 2, 0)


def show_why(config_path: Path, url: str | None, model: str, output: str) -> int:
    """Print it; returns 0: no pattern, 1: one, 2: it is off, 3: nobody answers, 4: not enough data."""
    try:
        models = ask(gateway_address(config_path, url), "/v1/compare")["models"]
    except Unreachable as error:
        click.echo(str(error), err=True)
        return 3
    if model not in models:
        raise click.UsageError(f"the gateway serves no model {model!r}; it serves: {', '.join(models)}")
    found = {alias: {"version": one["version"], **_pattern(one)} for alias, one in models[model].items()}
    if output == "json":
        click.echo(orjson.dumps({model: found}, option=orjson.OPT_INDENT_2).decode())
    else:
        console = Console()
        if not found:
            _say(console, f"{model} has no canary")
        for alias, one in found.items():
            _print(console, model, alias, one)
    codes = {_EXIT.get(one["finding"], _UNKNOWN) for one in found.values()}
    return next((code for code in _WORST_FIRST if code in codes), _UNKNOWN)


def _pattern(entry: Mapping[str, Any]) -> dict[str, Any]:
    if (pattern := entry.get("pattern")) is None:
        raise click.ClickException("this gateway is older than `why`")
    return dict(pattern)


def _print(console: Console, model: str, alias: str, found: Mapping[str, Any]) -> None:
    version = f"v{found['version']}" if found["version"] else "no version"
    _say(console, f"{model} {alias}: {version}")
    _say(console, found["why"])
    if found["finding"] == "off":
        _say(console, f"To have it looked at, set models.{model}.why: on")
    if found["shared"]:
        console.print(_table(found))


def _table(found: Mapping[str, Any]) -> Table:
    table = Table()
    for heading in ("requests with", f"of {found['faults']} faults", f"of {found['good_answers']} good", "p"):
        table.add_column(heading, justify="left" if heading == "requests with" else "right")
    for one in found["shared"]:
        figures = (f"{one['faults']}", f"{one['good_answers']}", f"{one['p']:.1g}")
        table.add_row(escape(plain(one["trait"])), *figures)
    return table


def _say(console: Console, line: str) -> None:
    console.print(plain(line), markup=False, highlight=False, soft_wrap=True)
