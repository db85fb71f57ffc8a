"""`canary-router compare`: whether the canary is good, and how sure that is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.asking import SYMBOLS, Unreachable, ask, gateway_address, said

_COLOURS: Mapping[str, str] = {"pass": "green", "fail": "red", "not_enough_data": "yellow"}
_SPLIT: Mapping[str, str] = {
    "pass": "as due",
    "fail": "⚠ split skew",
    "not_enough_data": SYMBOLS["not_enough_data"],
}
_HEADINGS = ("check", "production", "canary", "points more", "95 % interval", "verdict")


def show_comparison(config_path: Path, url: str | None, model: str | None, output: str) -> int:
    """Print it; returns 0 when no verdict is FAIL, 1 when one is, 3 when nobody answers."""
    try:
        told = ask(gateway_address(config_path, url), "/v1/compare")
    except Unreachable as error:
        click.echo(str(error), err=True)
        return 3
    models = told["models"]
    if model is not None and model not in models:
        raise click.UsageError(f"the gateway serves no model {model!r}; it serves: {', '.join(models)}")
    shown = models if model is None else {model: models[model]}
    if output == "json":
        click.echo(orjson.dumps({"models": shown}, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(shown, Console())
    failed = any(entry["verdict"] == "fail" for aliases in shown.values() for entry in aliases.values())
    return 1 if failed else 0


def _print(models: Mapping[str, Any], console: Console) -> None:
    for name, aliases in models.items():
        for alias, entry in aliases.items():
            versions = f"v{entry['version']} against production v{entry['production_version']}"
            told = versions if entry["version"] and entry["production_version"] else "not compared"
            _say(console, f"{name} {alias}: {told}, {entry['share'] * 100:g} % of the keys")
            _say(console, said(entry["verdict"], entry["why"]), style=_COLOURS[entry["verdict"]])
            if entry["checks"]:
                console.print(_table(entry["checks"]))
            for line in _notes(entry["checks"]):
                _say(console, line)


def _say(console: Console, line: str, *, style: str | None = None) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)


def _verdict(verdict: str) -> str:
    return f"[{_COLOURS[verdict]}]{SYMBOLS[verdict]}[/]"


def _table(checks: Sequence[Mapping[str, Any]]) -> Table:
    table = Table()
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in ("check", "verdict") else "right")
    for check in checks:
        if "outputs" in check:
            for one in check["outputs"]:
                table.add_row(f"score {escape(one['output'])}", *_means(one), _of_scores(check, one))
            if not check["outputs"]:
                table.add_row("scores", "–", "–", "–", "–", "not compared")
        elif "expected_share" in check:
            expected, observed = check["expected_share"], check["observed_share"]
            difference = None if observed is None else observed - expected
            production = None if observed is None else 1 - observed
            shares = (_percent(production), _percent(observed), _points(difference), "–")
            table.add_row("share of keys", *shares, _SPLIT[check["verdict"]])
        else:
            name = check["check"]
            if name == "latency" and check["edge_seconds"] is not None:
                name = f"over {check['edge_seconds'] * 1e3:g} ms"
            table.add_row(name, *_rates(check), _verdict(check["verdict"]))
    return table


def _of_scores(check: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    if check["judges"]:
        return _verdict(check["verdict"])
    # A new version is meant to score differently: what is only told is neither good nor bad.
    size = output["size"]
    return SYMBOLS["not_enough_data"] if size is None else f"{size} shift" if size != "none" else "no shift"


def _rates(check: Mapping[str, Any]) -> tuple[str, str, str, str]:
    arms = (f"{_percent(arm['rate'])} of {arm['requests']}" for arm in (check["production"], check["canary"]))
    interval = check["interval"]
    between = "–" if interval is None else f"{_points(interval[0])} to {_points(interval[1])}"
    production, canary = arms
    return production, canary, _points(check["difference"]), between


def _means(output: Mapping[str, Any]) -> tuple[str, str, str, str]:
    production, canary = (_mean(output[arm]) for arm in ("production", "canary"))
    interval, psi = output["mean_interval"], output["psi"]
    between = "–" if interval is None else f"{interval[0]:+.3g} to {interval[1]:+.3g}"
    size = "–" if psi is None else f"PSI {psi:.2f}"
    return production, canary, size, between


def _mean(arm: Mapping[str, Any]) -> str:
    return f"{arm['scores']} scores" if arm["mean"] is None else f"mean {arm['mean']:.3g} of {arm['scores']}"


def _notes(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each check says, and what would be needed to say more."""
    lines = [f"{check['check']}: {check['why']}" for check in checks]
    return lines + [check["needed"] for check in checks if check.get("needed")]


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio * 100:.3g} %"


def _points(difference: float | None) -> str:
    return "–" if difference is None else f"{difference * 100:+.3g}"
