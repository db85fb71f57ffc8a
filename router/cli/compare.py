"""`canary-router compare`: whether the canary is good, and how sure that is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.client import Unreachable, ask, gateway_address
from router.core.utc import utc

SYMBOLS: Mapping[str, str] = {"pass": "✔ pass", "fail": "✘ FAIL", "not_enough_data": "… not enough data"}
"""A verdict as terminals show it: in a word and a symbol, whatever its colour."""
_COLOURS: Mapping[str, str] = {"pass": "green", "fail": "red", "not_enough_data": "yellow"}
_SPLIT: Mapping[str, str] = {
    "pass": "as due",
    "fail": "⚠ split skew",
    "not_enough_data": SYMBOLS["not_enough_data"],
}
WIDE_COLUMNS = 120
"""Width of a terminal from which on each check has one line; a pipe has 80."""
Lines = tuple[str, ...]
"""The lines of one cell."""


def verdict_line(verdict: str, why: str) -> str:
    """A verdict and its sentence on one line, without saying twice that there is too little data."""
    symbol = SYMBOLS[verdict]
    return f"{symbol[0] if verdict == 'not_enough_data' else symbol}: {why}"


def show_comparison(config_path: Path, url: str | None, model: str | None, output: str) -> int:
    """Print it; returns 0 when no verdict is FAIL, 1 when one is, 3 when nobody answers."""
    try:
        models = ask(gateway_address(config_path, url), "/v1/compare")["models"]
    except Unreachable as error:
        click.echo(str(error), err=True)
        return 3
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
            compared = versions if entry["version"] and entry["production_version"] else "not compared"
            _say(console, f"{name} {alias}: {compared}, {entry['share'] * 100:g} % of the keys")
            _say(console, verdict_line(entry["verdict"], entry["why"]), style=_COLOURS[entry["verdict"]])
            if entry.get("horizon_timestamp") is not None:  # an older gateway has none
                _say(console, _judged(entry))
            if entry["checks"]:
                console.print(_table(alias, entry["checks"], wide=console.width >= WIDE_COLUMNS))
            for line in _notes(entry["checks"]):
                _say(console, line)


def _judged(entry: Mapping[str, Any]) -> str:
    """Up to when, and with whose answers."""
    at = utc(entry["horizon_timestamp"], "seconds")[11:19]  # as the sentence of the verdict has it
    ago = f"judged up to {at} UTC, {entry['judged_up_to_seconds']:.0f} s ago"
    return ", ".join(filter(None, (ago, together(entry["gateways"]))))


def together(gateways: Mapping[str, Any]) -> str:
    """With which gateways is judged; empty for one that judges alone. Whom they wait for, and whom they leave
    out, the sentence of each verdict says."""
    counted = gateways["counted"]
    if len(counted) + len(gateways["left_out"]) < 2:
        return ""
    return f"at {len(counted)} gateways: {' '.join(counted)}"


def _say(console: Console, line: str, *, style: str | None = None) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)


def _verdict(verdict: str) -> str:
    return f"[{_COLOURS[verdict]}]{SYMBOLS[verdict]}[/]"


def _table(alias: str, checks: Sequence[Mapping[str, Any]], *, wide: bool) -> Table:
    """A line for each check where there is room, else two: figures, and what they are of."""
    gap = " " if wide else "\n"
    table = Table()
    for heading in ("check", "production", alias, f"difference,{gap}95 % interval", "verdict"):
        table.add_column(escape(heading), justify="left" if heading in ("check", "verdict") else "right")
    for check in checks:
        for name, *figures, verdict in _rows(check):
            table.add_row(escape(gap.join(name)), *map(gap.join, figures), gap.join(verdict))
    return table


def _rows(check: Mapping[str, Any]) -> list[tuple[Lines, ...]]:
    if "outputs" in check:
        scores: list[tuple[Lines, ...]] = [
            ((f"score {one['output']}",), *_means(one), (_of_scores(check, one),)) for one in check["outputs"]
        ]
        return scores or [(("scores",), ("–",), ("–",), ("–",), ("not compared",))]
    if "expected_share" in check:
        return [_split(check)]
    if "ratio" in check:
        return [_cost(check)]
    if "pairs" in check:
        verdict = "no sign" if check["shows_none"] else _verdict(check["verdict"])
        return [(("faults of", "copies"), *_rates(check), (verdict,))]
    name = check["check"]
    if name == "latency" and check["edge_seconds"] is not None:
        name = f"over {round(check['edge_seconds'] * 1e3, 1):g} ms"
    return [((name,), *_rates(check), (_verdict(check["verdict"]),))]


def _split(check: Mapping[str, Any]) -> tuple[Lines, ...]:
    expected, observed = check["expected_share"], check["observed_share"]
    # Where a third alias has keys, too, these shares are of the keys of two of them.
    name = ("share of keys",) if check.get("pair_share", 1.0) >= 1.0 else ("keys of", "these two")
    production, difference = (None, None) if observed is None else (1 - observed, observed - expected)
    verdict = (_SPLIT[check["verdict"]],)
    return name, (_percent(production),), (_percent(observed),), (_points(difference),), verdict


def _cost(check: Mapping[str, Any]) -> tuple[Lines, ...]:
    production: Lines
    canary: Lines
    times: Lines
    ratio, interval = check["ratio"], check["interval"]
    arms = check["production"], check["canary"]
    predicts = [f"of {arm['predicts']}" for arm in arms]
    if ratio is None:
        production, canary, times = (predicts[0],), (predicts[1],), ("–",)
    else:
        production, canary = (
            (f"{arm['seconds'] * 1e3:.3g} ms", each) for arm, each in zip(arms, predicts, strict=True)
        )
        times = (f"{ratio:.3g} times", f"{interval[0]:.3g} to {interval[1]:.3g}")
    if check["judges"] or ratio is None:
        verdict = _verdict(check["verdict"])
    else:  # what is only reported is neither good nor bad
        verdict = f"⚠ {check['change']}" if check["change"] else "no change"
    return ("processor", "time"), production, canary, times, (verdict,)


def _of_scores(check: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    if check["judges"]:
        return _verdict(check["verdict"])
    if output.get("uncounted"):
        return "⚠ not counted"
    # A new version is meant to score differently: what is only reported is neither good nor bad.
    size = output["size"]
    if output.get("saturated") and size == "none":
        return "⚠ out of range"
    return SYMBOLS["not_enough_data"] if size is None else f"{size} shift" if size != "none" else "no shift"


def _rates(check: Mapping[str, Any]) -> tuple[Lines, Lines, Lines]:
    production, canary = (
        (_percent(arm["rate"]), f"of {arm['requests']}") for arm in (check["production"], check["canary"])
    )
    interval = check["interval"]
    between = () if interval is None else (f"{_signed(interval[0])} to {_signed(interval[1])}",)
    return production, canary, (_points(check["difference"]), *between)


def _means(output: Mapping[str, Any]) -> tuple[Lines, Lines, Lines]:
    production, canary = (_mean(output[arm]) for arm in ("production", "canary"))
    interval, psi, moved = output["mean_interval"], output["psi"], output["mean_difference"]
    shift = [] if psi is None else [f"PSI {psi:.2f}"]
    shift += [] if moved is None else [f"mean {moved:+.2g}"]
    shift += [] if interval is None else [f"{interval[0]:+.2g} to {interval[1]:+.2g}"]
    return production, canary, tuple(shift) or ("–",)


def _mean(arm: Mapping[str, Any]) -> Lines:
    return (
        (f"{arm['scores']}", "scores")
        if arm["mean"] is None
        else (f"mean {arm['mean']:.3g}", f"of {arm['scores']}")
    )


def _notes(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentence of each check, what is only shown, then what would be needed for a verdict."""
    lines = [f"{check['check']}: {check['why']}" for check in checks]
    lines += [check["shown"] for check in checks if check.get("shown")]
    return lines + [check["needed"] for check in checks if check.get("needed")]


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio * 100:.3g} %"


def _points(difference: float | None) -> str:
    return "–" if difference is None else f"{_signed(difference)} points"


def _signed(difference: float) -> str:
    """In points: three digits, two behind the point at most, and no negative zero."""
    return f"{round(difference * 100, 2) + 0.0:+.3g}"
