"""`canary-router route MODEL KEY --at TIME`: who answered a key then, by formula and journal.

All is computed here: the key is sent to nobody, and is no part of what is printed.
"""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from router.adapters.config.file import load_settings
from router.cli.journal_lines import read_journal, require_model
from router.cli.journal_text import plain, sentence_of
from router.cli.times import moment
from router.core.ids import PRODUCTION
from router.core.journal import Entry
from router.core.keys import text_key
from router.core.past_routes import LEEWAY_SECONDS, Answer, Candidate, End, Gap, Moment, Period
from router.core.pins import NOTHING_PINNED, PinLists
from router.core.utc import utc
from router.errors import ConfigRefused


def show_past_route(
    config_path: Path, model: str, key: str, at_text: str, output: str, given: Sequence[Path]
) -> int:
    """Print who got the key; returns 0, 1 where nobody did or nobody knows, 3 without a journal."""
    if text_key([key]) is None:
        raise click.UsageError("this key counts as missing: such a request is not routed by it")
    try:
        at = moment(at_text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    if at > time.time():
        raise click.BadParameter("this time is yet to come", param_hint="--at")
    past = Moment(model, at)

    def take_all(entries: Iterable[tuple[Entry, int]]) -> None:
        for entry, chain in entries:
            past.take(entry, chain)

    if not read_journal(config_path, given, take_all):
        return 3
    require_model(model, past.models)
    answer = past.answer(key, _pins(config_path, model))
    if output == "json":
        click.echo(orjson.dumps(_document(model, answer), option=orjson.OPT_INDENT_2).decode())
    else:
        for line in _lines(model, answer):
            click.echo(plain(line))
    return 0 if any(one.outcome for one in answer.candidates) else 1


def _pins(config_path: Path, model: str) -> PinLists:
    """Those of the configuration's file, if there is one; what a journal says shows whether they are those of
    then."""
    try:
        models = load_settings(config_path, os.environ, {}).settings.models
    except ConfigRefused:
        return NOTHING_PINNED
    return models[model].pins if model in models else NOTHING_PINNED


def _document(model: str, answer: Answer) -> dict[str, Any]:
    return {
        "model": model,
        "at": utc(answer.at),
        "certain": answer.certain and answer.running,
        "running": answer.running,
        "answers": [
            {
                "gateway": one.period.gateway,
                "alias": one.assignment.alias if one.assignment else None,
                "version": one.assignment.version.number if one.assignment else None,
                "reason": one.assignment.reason if one.assignment else None,
                "bucket": one.assignment.bucket if one.assignment else None,
                "since": utc(one.period.since),
                "until": utc(one.period.until) if one.period.until is not None else None,
                "folded": one.period.folded,
                "gap": one.period.gap,
            }
            for one in answer.candidates
        ],
        "why": [*_unanswered(answer), *_notes(answer)],
    }


def _lines(model: str, answer: Answer) -> list[str]:
    begin = f"{model} at {utc(answer.at)}: "
    if not answer.candidates:
        why, *more = _unanswered(answer)
        return [begin + why, *(f"  {line}" for line in (*more, *_notes(answer)))]
    outcomes = list(dict.fromkeys(_who(one) for one in answer.candidates))
    if answer.agreed:
        went = f"this key went to {outcomes[0]}" if answer.candidates[0].assignment else outcomes[0]
        said = went if answer.certain else f"{went}, as far as lines show"
        periods = _of_the_moment(answer)
    else:
        said = f"either {' or '.join(outcomes)}{_changed_at(answer)}"
        periods = list(answer.candidates)
    bucket = next((one.assignment.bucket for one in answer.candidates if one.assignment), None)
    lines = [begin + said]
    if bucket is not None:
        lines.append(f"  bucket {bucket}")
    lines += [f"  {line}" for line in dict.fromkeys(_described(model, one) for one in periods)]
    return lines + [f"  {line}" for line in _notes(answer)]


def _of_the_moment(answer: Answer) -> list[Candidate]:
    """Those that were in force at the moment itself, if there are any."""
    there = [one for one in answer.candidates if one.period.covers(answer.at)]
    return there or list(answer.candidates)


def _who(candidate: Candidate) -> str:
    if candidate.assignment is not None:
        return f"{candidate.assignment.alias} v{candidate.assignment.version.number}"
    if candidate.period.routes is None:
        return "nobody, the model was not served"
    return "nobody, production had no version"


def _changed_at(answer: Answer) -> str:
    """When, if it was one change near the moment that makes it uncertain."""
    near = {
        edge
        for one in answer.candidates
        for edge in (one.period.since, one.period.until)
        if edge is not None and abs(edge - answer.at) <= LEEWAY_SECONDS
    }
    if near:
        return f", changed at {' and '.join(map(utc, sorted(near)))}"
    if any(one.period.folded or one.period.gap is Gap.FOLDED for one in answer.candidates):
        return ", changed again and again"
    return ", the gateways differed"


def _described(model: str, candidate: Candidate) -> str:
    period = candidate.period
    reason = f" (reason {candidate.assignment.reason})" if candidate.assignment else ""
    until = (
        f"until {utc(period.until)}" if period.until is not None else "until now, or where the journal ends"
    )
    said = f"{_who(candidate)}{reason} at {period.gateway} from {utc(period.since)} {until}"
    if period.folded:
        return f"{said}: one of {period.folded} changes that were folded into one line"
    if period.gap is Gap.NOT_KEPT:
        return f"{said}: perhaps, because its lines of that time are in no file, but in its log"
    return f"{said}: {sentence_of(period.begun_by, model, None)}"


def _unanswered(answer: Answer) -> list[str]:
    """Why there is no answer."""
    if answer.candidates:
        return []
    if answer.begins is None:
        return ["the journal does not say what was served"]
    if answer.at < answer.begins:
        return [f"the journal begins at {utc(answer.begins)}"]
    lines = ["the gateway was not running"]
    if answer.stopped is not None:
        lines.append(_ended(answer.stopped))
    if answer.started is not None:
        lines.append(f"the next one started at {utc(answer.started)}")
    return lines


def _ended(period: Period) -> str:
    if period.end is End.STOP:
        return f"{period.gateway} stopped at {utc(period.until or 0.0)}"
    lost = f"{period.gateway} ended without a line, between {utc(period.certain_until or 0.0)}"
    return f"{lost} and {utc(period.until or 0.0)}"


def _notes(answer: Answer) -> list[str]:
    if answer.begins is None or (not answer.candidates and answer.at < answer.begins):
        return []
    lost = [one.period for one in _of_the_moment(answer) if not one.period.surely_running(answer.at)]
    lines = [f"{_ended(period)}: whether it was running is not known" for period in lost]
    if answer.candidates and not answer.running and not lost:
        lines.append("a gateway started or stopped at this moment")
    lines += [f"what {gateway} did is known from {utc(at)} on only" for gateway, at in answer.unknown]
    if unknown := max((one.unknown_pins for one in answer.candidates), default=0):
        lines.append(f"{unknown} pinned keys may differ: which ones they were is not known")
    if any(one.assignment and one.assignment.alias != PRODUCTION for one in answer.candidates):
        lines.append("where that version failed the request, production answered it (reason fallback)")
    return list(dict.fromkeys(lines))
