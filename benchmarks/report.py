"""The tables a run prints, and the document it writes."""

from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.bars import BARS, Outcome, judge
from benchmarks.figures import percentile
from benchmarks.results import CellResult, Results
from benchmarks.servers import GATEWAY


def document(about: dict[str, Any], results: Results) -> dict[str, Any]:
    """Everything, JSON-ready."""
    return {
        **about,
        "bars": [_bar(outcome) for outcome in outcomes(results)],
        "cells": [
            {
                **result.cell.load._asdict(),
                "seconds": result.cell.seconds,
                "rounds": {name: [asdict(one) for one in rounds] for name, rounds in result.rounds.items()},
                "gateway_over": {
                    name: result.ratio("per_second", name) for name in result.rounds if name != GATEWAY
                },
                "processor_microseconds_per_request": result.microseconds,
                "versions_that_shared_no_predicts": result.alone,
            }
            for result in results.cells
        ],
        "launches": {name: [asdict(one) for one in all_] for name, all_ in results.launches.items()},
        "swaps": _swaps(results),
        "scale": None if results.scale is None else asdict(results.scale),
        "beside_busy_processes": None if results.busy is None else asdict(results.busy),
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
    if results.cells:
        yield ""
        yield "Medians of the rounds. Gateway over: the ratio of answers per second in neighbouring rounds."
        head = f"{'load and server':<36}{'per second':>11}{'p50 ms':>9}{'p99 ms':>9}{'gateway over':>13}"
        yield f"{head}  µs a request"
    for result in results.cells:
        yield from _cell(result)
    yield ""
    yield f"{'bar':<5}{'what':<46}{'owed':>9}{'measured':>12}  verdict"
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


def _cell(result: CellResult) -> Iterator[str]:
    cell = result.cell
    yield f"{cell.load}, {cell.rounds} × {cell.seconds} s"
    for name in result.rounds:
        speed, p50, p99 = (result.median(name, figure) for figure in ("per_second", "p50_ms", "p99_ms"))
        over = "" if name == GATEWAY else f"{result.ratio('per_second', name):.2f}×"
        spent = " + ".join(
            f"{role} {used:.0f}" for role, used in result.microseconds[name].items() if used >= 1
        )
        failed = f"  {result.failed(name)} FAILED" if result.failed(name) else ""
        yield f"  {name:<34}{speed:>11.0f}{p50:>9.2f}{p99:>9.2f}{over:>13}  {spent}{failed}"


def _outcome(outcome: Outcome) -> str:
    bar = outcome.bar
    limit = f"{'≥' if bar.at_least else '≤'} {bar.limit:g}{bar.unit}"
    value = "" if outcome.value is None else f"{outcome.value:.2f}{bar.unit}"
    note = f" ({outcome.note})" if outcome.note else ""
    return f"{bar.number:<5}{bar.what:<46}{limit:>9}{value:>12}  {outcome.verdict}{note}"


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
    reported = {}
    for name, values in (("steady", swaps.steady_ms), ("window", swaps.window_ms)):
        shares = {f"p{percent}": percentile(values, percent) for percent in (50, 90, 99)}
        reported[name] = {"requests": len(values), **shares, "worst": max(values, default=None)}
    return {
        "requests_per_second": swaps.rate,
        "sent": swaps.sent,
        "failed": swaps.failed,
        "never_sent": swaps.never_sent,
        "milliseconds": reported,
        "window_seconds_median": median(swaps.window_seconds) if swaps.window_seconds else None,
        "levels": [asdict(level) for level in swaps.levels],
    }
