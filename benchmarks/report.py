"""The tables a run prints, and the document it writes."""

from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.bars import BARS, Outcome, judge
from benchmarks.figures import percentile
from benchmarks.results import CellResult, Results
from benchmarks.servers import GATEWAY, MLFLOW


def document(about: dict[str, Any], results: Results) -> dict[str, Any]:
    """Everything, JSON-ready."""
    return {
        **about,
        "bars": [_bar(outcome) for outcome in outcomes(results)],
        "cells": [
            {
                **asdict(result.cell),
                "rounds": {name: [asdict(one) for one in rounds] for name, rounds in result.rounds.items()},
                "ratio": result.ratio("per_second"),
                "processor_microseconds_per_request": result.microseconds,
            }
            for result in results.cells
        ],
        "launches": {name: [asdict(one) for one in all_] for name, all_ in results.launches.items()},
        "swaps": _swaps(results),
        "answers_compared": results.compared,
        "skipped": results.skipped,
        "broken": results.broken,
    }


def outcomes(results: Results) -> list[Outcome]:
    """Every bar against this run."""
    return [judge(bar, results) for bar in BARS]


def lines(about: dict[str, Any], results: Results) -> Iterator[str]:
    """What is printed at the end."""
    yield from _head(about)
    yield ""
    yield "Medians of the rounds; the ratio is that of neighbouring rounds; µs is processor time per request."
    yield f"{'load':<34}{'mlflow':>9}{'p50':>9}{'p99':>9}{'gateway':>10}{'p50':>9}{'p99':>9}{'ratio':>8}  µs"
    yield from map(_cell, results.cells)
    yield ""
    yield f"{'bar':<5}{'what':<56}{'bar':>9}{'measured':>13}  verdict"
    yield from map(_outcome, outcomes(results))
    for reason in results.skipped:
        yield f"skipped: {reason}"
    for reason in results.broken:
        yield f"BROKEN: {reason}"


def _head(about: dict[str, Any]) -> Iterator[str]:
    machine, versions, pinned = about["machine"], about["versions"], about["pinned"]
    yield f"{about['date']}  {about['command']}  {about['commit']}"
    yield f"{machine['processor']}, {machine['processors']} processors, {machine['memory_gib']} GiB"
    yield machine["system"]
    yield ", ".join(f"{name} {number}" for name, number in versions.items())
    where = (
        "not pinned"
        if pinned["load"] is None
        else f"on processor {pinned['load']}, servers on {pinned['servers']}"
    )
    before, after = about["load_average"][0], about["load_average_at_end"][0]
    yield f"load by {about['client']}, {where}"
    yield f"load average {before:.1f} before, {after:.1f} at the end, where this run is in it"


def _cell(result: CellResult) -> str:
    line = f"{result.cell!s:<34}"
    for name in (MLFLOW, GATEWAY):
        speed, p50, p99 = (result.median(name, figure) for figure in ("per_second", "p50_ms", "p99_ms"))
        line += f"{speed:>{9 if name == MLFLOW else 10}.0f}{p50:>9.2f}{p99:>9.2f}"
    line += f"{result.ratio('per_second'):>7.2f}×  "
    line += f"{sum(result.microseconds[MLFLOW].values()):.0f} against "
    line += " + ".join(
        f"{role} {spent:.0f}" for role, spent in result.microseconds[GATEWAY].items() if spent >= 1
    )
    return line + (f"  {result.failed()} FAILED" if result.failed() else "")


def _outcome(outcome: Outcome) -> str:
    bar = outcome.bar
    limit = f"{'≥' if bar.at_least else '≤'} {bar.limit:g}{bar.unit}"
    value = "" if outcome.value is None else f"{outcome.value:.2f}{bar.unit}"
    note = f" ({outcome.note})" if outcome.note else ""
    return f"{bar.number:<5}{bar.what:<56}{limit:>9}{value:>13}  {outcome.verdict}{note}"


def _bar(outcome: Outcome) -> dict[str, Any]:
    bar = outcome.bar
    return {
        "number": bar.number,
        "what": bar.what,
        "unit": bar.unit.strip(),
        "limit": bar.limit,
        "stretch": bar.stretch,
        "value": outcome.value,
        "verdict": outcome.verdict,
        "note": outcome.note,
    }


def _swaps(results: Results) -> dict[str, Any] | None:
    swaps = results.swaps
    if swaps is None:
        return None
    told = {}
    for name, values in (("steady", swaps.steady_ms), ("window", swaps.window_ms)):
        shares = {f"p{percent}": percentile(values, percent) for percent in (50, 90, 99)}
        told[name] = {"requests": len(values), **shares, "worst": max(values, default=None)}
    return {
        "requests_per_second": swaps.rate,
        "sent": swaps.sent,
        "failed": swaps.failed,
        "never_sent": swaps.never_sent,
        "milliseconds": told,
        "window_seconds_median": median(swaps.window_seconds),
        "levels": [asdict(level) for level in swaps.levels],
    }
