"""`canary-router plan`: what another share would do, asked of a gateway before it is given."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import orjson

from router.analysis.text import duration, percent
from router.cli.client import TIMEOUT_SECONDS, Refused, Unreachable, gateway_address, request
from router.settings.mappings import read_percent

_BAD_REQUEST = (400, 404)
"""Statuses by which a gateway says that what it was asked makes no sense."""
_NO_SUCH_PATH = "Not Found"
"""What an older gateway says of a path that it does not have."""
_KEYS = ("model", "share", "keys", "against")


def percent_argument(text: str) -> Decimal:
    """PERCENT of a command line. Raises a usage error."""
    try:
        return read_percent(text)
    except ValueError as error:
        raise click.UsageError(f"PERCENT {error}") from None


def show_plan(
    config_path: Path, url: str | None, model: str, written: str, output: str, *, strict: bool
) -> int:
    """Print it; returns 0, with `strict` 1 when something speaks against it, and 3 when nobody answers."""
    share = percent_argument(written)
    try:
        plan = ask_plan(gateway_address(config_path, url), model, share)
    except Refused as refused:
        raise click.UsageError(f"the gateway does not plan that: {refused}") from None
    except Unreachable as error:
        click.echo(str(error), err=True)
        return 3
    if output == "json":
        click.echo(orjson.dumps(plan, option=orjson.OPT_INDENT_2).decode())
    else:
        print_plan(plan)
    return 1 if strict and plan["against"] else 0


def ask_plan(
    base: str, model: str, share: Decimal, timeout_seconds: float = TIMEOUT_SECONDS
) -> Mapping[str, Any]:
    """What `/v1/plan` of the gateway at `base` answers. Raises Unreachable, or Refused with its reason."""
    query = urlencode({"model": model, "share": f"{share:f}"})
    try:
        return request(base, f"/v1/plan?{query}", *_KEYS, timeout_seconds=timeout_seconds)
    except Refused as refused:
        if refused.status in _BAD_REQUEST and str(refused) != _NO_SUCH_PATH:
            raise
        raise Unreachable(f"no gateway answers at {base} with a plan: {refused}") from refused


def print_plan(plan: Mapping[str, Any], *, err: bool = False) -> None:
    """As a table without lines, to standard output or standard error."""
    share = plan["share"]
    click.echo(
        f"{plan['model']}: canary {share['configured']:g} % → {share['planned']:g} % of the keys", err=err
    )
    for name, sentence in _rows(plan):
        click.echo(f"  {name:<10}{sentence}", err=err)
    for objection in plan["against"]:
        click.echo(f"  ✘ {objection['code']}: {objection['why']}", err=err)
    if not plan["against"]:
        click.echo("  Nothing speaks against it.", err=err)


def _rows(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    share, traffic, buckets = plan["share"], plan["traffic"], plan["buckets"]
    if (share["in_force"], share["planned_in_force"]) != (share["configured"], share["planned"]):
        yield "in force", f"{share['in_force']:g} % → {share['planned_in_force']:g} %"
    yield (
        "buckets",
        f"{buckets['change_side']} of 100000 change side; keys were seen in {buckets['seen_change_side']}",
    )
    lately = f"the last {duration(traffic['seconds'])}" if traffic["seconds"] else "the last hour"
    keys = plan["keys"]
    yield "keys", f"{_about(keys['change_side'])} change side, of {_about(keys['seen'])} seen in {lately}"
    now, then = (plan["requests_per_second"][when] for when in ("now", "then"))
    rates = (f"{alias} {_rate(now.get(alias))} → {_rate(rate)}" for alias, rate in then.items())
    yield "requests", f"{', '.join(rates)} a second"
    if not share["planned_in_force"]:
        return
    yield "workers", _workers(plan["workers"])
    as_good = "if it is as good as production"
    if plan["seconds_until_pass"]["scores_judge"]:
        as_good += " and its scores, which take longer, did not move"
    yield "pass", _forecast(plan["seconds_until_pass"], as_good)
    yield (
        "1 point",
        _forecast(plan["seconds_until_point_shows"], "until a point more faults would be proven"),
    )


def _about(estimate: Mapping[str, Any]) -> str:
    return f"over {estimate['more_than']}" if estimate["about"] is None else f"about {estimate['about']}"


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.3g}" if rate < 100 else f"{rate:.0f}"


def _workers(workers: Mapping[str, Any]) -> str:
    if workers["version"] is None:
        return f"no version serves as canary; {workers['configured']} configured"
    if workers["needed"] is None:
        return f"what v{workers['version']} costs is not known yet; {workers['configured']} configured"
    busy = f"{percent(workers['busy'])} of one are taken"
    return f"v{workers['version']} needs {workers['needed']} ({busy}); {workers['configured']} configured"


def _forecast(forecast: Mapping[str, Any], condition: str) -> str:
    if forecast["about"] is None:
        return f"no forecast: {forecast['why_not']}"
    about, low, high = (duration(forecast[name]) for name in ("about", "low", "high"))
    return f"about {about} ({low} to {high}) {condition}"
