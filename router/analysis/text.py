"""Verdicts in plain English. Pure: a report in, sentences out; page, terminal and log show the same ones."""

from collections.abc import Sequence

from router.analysis.checks import (
    Check,
    LatencyCheck,
    RateCheck,
    Report,
    ScoreCheck,
    SplitCheck,
    UncleanEnd,
    verdict_in_force,
)
from router.analysis.cost_check import CostCheck
from router.analysis.criteria import Criteria
from router.analysis.fleet_view import FleetView
from router.analysis.paired_check import PairedCheck
from router.analysis.shadow_text import shadow_sentence
from router.analysis.statistics.drift import MIN_KEYS as SCORED_KEYS
from router.analysis.statistics.drift import OutputShift
from router.analysis.statistics.durations import LAST_SECONDS
from router.analysis.statistics.latency import FIRST_REQUESTS
from router.core.breaker import OUTAGE_FAULTS, OUTAGE_REQUESTS
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.utc import utc
from router.core.verdict import Verdict

MIN_KEYS = round(Criteria().min_keys)
_USUAL_ALPHA = Criteria().alpha
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
NO_SCORES = "No scores are compared: there is no output that both versions count alike."


def verdict_sentence(
    report: Report | None, obstacle: str, alias: Alias = CANARY, *, broken: bool = False
) -> str:
    """The verdict of `alias`. `obstacle`: why nothing is compared at this moment; empty when it is.

    `broken`: the obstacle is an open breaker. It counts more than the evidence does, such as crashes and
    requests without a key, so it is no FAIL; but then nothing good is said, and no forecast made.
    """
    if report is None:
        return f"Not compared: {obstacle}."
    if not obstacle:
        return _decisive(report, alias)
    rests = f"Not compared now: {obstacle}."
    if verdict_in_force(report, broken=broken) is Verdict.NOT_ENOUGH_DATA:
        return rests
    return f"{_decisive(report, alias)} {rests}"


def check_sentence(one: Check, alias: Alias = CANARY) -> str:
    """The verdict of one check of `alias`."""
    if isinstance(one, SplitCheck):
        return _split(one, alias)
    if isinstance(one, ScoreCheck):
        return _scores(one.outputs[0], alias, one.alpha) if one.outputs else NO_SCORES
    if isinstance(one, PairedCheck):
        return shadow_sentence(one, alias_phrase(alias), _proven(one.alpha))
    return cost_sentence(one, alias) if isinstance(one, CostCheck) else _rate(one, alias)


def cost_sentence(one: CostCheck, alias: Alias = CANARY) -> str:
    """What predicts of `alias` take of a processor, beside production's."""
    who = alias_phrase(alias)
    if one.failed is not None and (one.interval is None or one.interval.low <= 1.0 + one.limit):
        took = f"{_times(one.failed.low)} to {_times(one.failed.high)} times"
        failed = f"{_capital(who)} took {took} as much processor time as production when it failed"
        now = f", and {_times(one.ratio)} times now" if one.ratio is not None else ""
        return f"{failed}{now}; another version, or another comparison, begins anew."
    if one.ratio is None or one.interval is None:
        predicts = f"{one.canary.cost.predicts} of {who} and {one.production.cost.predicts} of production"
        return f"Not enough data: the processor time of few predicts is known, {predicts}."
    rows = "a row" if one.rows < 1.05 else f"{_digits(one.rows)} rows"
    figures = f"{_times(one.interval.low)} to {_times(one.interval.high)}, at production's predicts of {rows}"
    much = f"{_times(one.ratio)} times as much processor time as production ({figures})"
    sentence = f"{_capital(who)} takes {much}."
    if one.production.processors is None or one.canary.processors is None:
        return sentence
    needs, instead = _digits(one.canary.processors), _digits(one.production.processors)
    return f"{sentence} All of the present traffic would keep {needs} processors busy with it, not {instead}."


def gateways_sentence(
    view: FleetView, horizon_timestamp: float, lagging: Sequence[tuple[str, float]] = ()
) -> str:
    """Who is missing from a verdict, or keeps it from going on; empty where all gateways are counted.

    `horizon_timestamp`: what was judged came before it, in seconds since 1970. `lagging`: who serves another
    split, and the canary's share of it, 0 to 1.
    """
    sentences = []
    if view.waiting:
        silent = (f"{one.host}, silent for {duration(one.silent_seconds)}" for one in view.waiting)
        moment = utc(horizon_timestamp, "seconds")[11:19]
        sentences.append(f"Judged up to {moment} UTC; waiting for {' and '.join(silent)}.")
    if view.left_out:
        every = len(view.counted) + len(view.left_out)
        left_out = "; ".join(f"{one.host}: {one.why}" for one in view.left_out)
        sentences.append(f"{len(view.counted)} of {every} gateways are counted ({left_out}).")
    sentences += [f"{host} still serves {percent(share)}." for host, share in lagging]
    return " ".join(sentences)


def alias_phrase(alias: Alias) -> str:
    """`the canary`, `production`, and `alias shadow` for one that bears a name of its own."""
    return "the canary" if alias == CANARY else alias if alias == PRODUCTION else f"alias {alias}"


def detectable_difference(one: RateCheck) -> str:
    """When a difference worth knowing would be seen, were it there; empty while that is unknown."""
    if one.seconds_to_show_point is None:
        return ""
    seconds = duration(one.seconds_to_show_point)
    if one.check == "faults":
        return f"A 1-point error difference shows in about {seconds} at this rate."
    return f"A 5-point difference in slow answers shows in about {seconds} at this rate."


def duration(seconds: float) -> str:
    """`40 min` and the like; whole numbers, and no unit smaller than a second."""
    for unit, size, most in (("s", 1.0, 90.0), ("min", _MINUTE, 90 * _MINUTE), ("h", _HOUR, 36 * _HOUR)):
        if seconds < most:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{round(seconds / _DAY)} days" if seconds < 1000 * _DAY else "years"


def percent(ratio: float) -> str:
    """`3.3 %`: two digits that matter."""
    return f"{_digits(ratio * 100)} %"


def _capital(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}"


def _digits(value: float) -> str:
    size = abs(value)
    if not size:
        return "0"
    return f"{value:.0f}" if size >= 9.95 else f"{round(value, 1):g}" if size >= 0.095 else f"{value:.2g}"


def _times(ratio: float) -> str:
    """`1.98`: three digits that matter."""
    return f"{ratio:.3g}"


def _decisive(report: Report, alias: Alias) -> str:
    sentence = _of_checks(report, alias)
    cost = report.cost
    if cost is not None and cost.change and not (cost.judges and cost.verdict is Verdict.FAIL):
        sentence = f"{sentence} {cost_sentence(cost, alias)}"
    if report.verdict is Verdict.FAIL or not report.held_by:
        return sentence
    return f"{sentence} {_held(report.held_by)}"


def _held(ends: Sequence[UncleanEnd]) -> str:
    """A canary that takes its gateway with it takes the evidence, too."""
    moments: dict[str, list[str]] = {}
    for end in ends:
        moments.setdefault(end.host, []).append(utc(end.timestamp, "minutes")[11:16])
    hosts = (f"{host} ended uncleanly at {' and '.join(at)} UTC" for host, at in moments.items())
    return f"No pass: {'; '.join(hosts)}: find out why."


def _of_checks(report: Report, alias: Alias) -> str:
    judging = [one for one in report.checks if one.judges]
    if report.verdict is Verdict.FAIL:
        return " ".join(check_sentence(one, alias) for one in judging if one.verdict is Verdict.FAIL)
    if report.verdict is Verdict.PASS:
        who, faults = _capital(alias_phrase(alias)), check_sentence(report.faults, alias)
        return f"{who} is no worse than production, as far as it is judged. {faults}"
    if report.scores.uncounted:
        return check_sentence(report.scores, alias)  # whatever else is missing, it does not pass
    if report.shadow is not None and not report.share:
        return check_sentence(report.shadow, alias)  # nothing else has anything to judge
    waiting = [one for one in judging if one.verdict is Verdict.NOT_ENOUGH_DATA]
    # What needs the most requests comes last, so its sentence says how long all of it takes. Where all pass,
    # something else holds the pass.
    return check_sentence(max(waiting, key=_needed, default=report.faults), alias)


def _needed(one: Check) -> tuple[bool, bool, float]:
    if isinstance(one, ScoreCheck):
        return one.never_passes, False, 0.0
    if not isinstance(one, RateCheck):
        return False, False, 0.0
    return one.never_passes, one.will_not_pass, float(one.requests_needed or 0)


def _rate(one: RateCheck, alias: Alias) -> str:
    production, canary, who = one.production, one.canary, _capital(alias_phrase(alias))
    if one.verdict is Verdict.FAIL and one.failed_by == "outage":
        failed = f"{OUTAGE_FAULTS} of {OUTAGE_REQUESTS} requests in a row"
        return f"{who} failed at least {failed} that production answered."
    if not canary.requests or one.difference is None or canary.rate is None or production.rate is None:
        return _without_traffic(one, alias)
    rates = f"{percent(canary.rate)} against {percent(production.rate)}"
    more = f"{_digits(abs(one.difference) * 100)} points {'more' if one.difference >= 0 else 'less'}"
    worse = f"{who} {_does(one, more)} than production ({rates})"
    if one.verdict is Verdict.FAIL:
        return f"{worse}: {_proven(one.alpha)}."
    if one.verdict is Verdict.PASS:
        most = _does(one, f"at most {_digits(one.margin * 100)} points more")
        return f"{who} {most} than production ({rates}, {canary.requests} {alias} requests)."
    if one.production_failing:
        return f"Production itself {_does(one, percent(production.rate))}: no pass."
    if isinstance(one, LatencyCheck) and one.unmeasured:
        return _unmeasured(one, alias)
    if one.will_not_pass:
        return f"{worse}: not proven so far, and at these rates it does not pass.{_until_fail(one)}"
    return f"Not enough data: {_missing(one, alias)}.{_until_fail(one)}"


def _proven(alpha: float) -> str:
    """`proven`, and by how much where that is not what is usual."""
    return "proven" if alpha == _USUAL_ALPHA else f"proven, at alpha {alpha:g}"


def _does(one: RateCheck, amount: str) -> str:
    if isinstance(one, LatencyCheck) and one.edge_seconds is not None:
        return f"answers {amount} of its requests in over {round(one.edge_seconds * 1e3, 1):g} ms"
    return f"fails {amount} of its requests"


def _unmeasured(one: LatencyCheck, alias: Alias) -> str:
    if one.unmeasured == "all_slow":
        slow = _does(one, percent(one.production.rate or 0.0))
        return f"Not enough data: production itself {slow}, so that a slower {alias} would look the same."
    over = one.quantiles_over_last_edge
    arms = ((PRODUCTION, over.production), (alias, over.canary))
    whose = " and of ".join(alias_phrase(arm) for arm, quantiles in arms if quantiles.p95)
    last = f"{LAST_SECONDS:g} s, beyond which all durations are counted alike"
    return f"Not enough data: the 95th percentile of {whose} is over {last}."


def _without_traffic(one: RateCheck, alias: Alias) -> str:
    if isinstance(one, LatencyCheck) and one.edge_seconds is None:
        known = f"production's first {FIRST_REQUESTS} requests"
        return f"Not enough data: what is slow is not known before {known}."
    silent = PRODUCTION if one.canary.requests else alias
    return f"Not enough data: no requests of {alias_phrase(silent)} that carry a key yet."


def _missing(one: RateCheck, alias: Alias) -> str:
    requests, keys, needed = one.canary.requests, one.canary.keys, _two_digits(one.requests_needed or 0)
    if one.requests_enough and not one.keys_enough:
        if keys < MIN_KEYS:
            few = "1 key" if keys == 1 else f"{keys} keys"
            return f"{requests} {alias} requests of {few}; {MIN_KEYS} are needed"
        return f"{requests} {alias} requests of {keys} keys, but a few of them ask for nearly all"
    if requests >= needed:
        return f"{requests} {alias} requests"
    counted = f"{requests} of about {needed} {alias} requests"
    if one.seconds_needed is None:
        return counted
    return f"{counted}; about {duration(one.seconds_needed)} at this rate"


def _two_digits(number: int) -> int:
    """An estimate has two digits at most, rounded up."""
    least: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // least) * least


def _until_fail(one: RateCheck) -> str:
    # A difference that may be nothing or is too small for a FAIL, or a PASS that is due before, makes the
    # forecast a false alarm.
    if not one.fail_seconds or one.interval is None or one.interval[0] <= 0.0:
        return ""
    if one.difference is None or one.difference < one.limit:
        return ""
    if one.seconds_needed is not None and one.seconds_needed <= one.fail_seconds:
        return ""
    return f" If it goes on like this, it fails in about {duration(one.fail_seconds)}."


def _scores(output: OutputShift, alias: Alias, alpha: float) -> str:
    if output.uncounted:
        arm = output.canary if output.uncounted == CANARY else output.production
        who = alias_phrase(alias if output.uncounted == CANARY else PRODUCTION)
        answers = f"{arm.invalid} of {arm.invalid + arm.scores}"
        return f"No pass: {answers} answers of {who} hold no score that can be counted."
    if output.psi is None or output.noise is None:
        keys = f"{output.canary.keys} {alias} keys and {output.production.keys} of production"
        few = f"Not enough data: {keys} have a score; {SCORED_KEYS} of each are needed."
        # Else it looks as if time alone would do, while the canary may answer texts where numbers are due.
        without = output.canary.invalid
        if not without:
            return few
        return f"{few} {without} answers of {alias_phrase(alias)} have none that can be counted."
    measured = f"PSI {output.psi:.2f} (noise {output.noise:.2f})"
    proven = f", {_proven(alpha)}" if output.proven else ""
    what = "classes" if output.kind == "class" else "scores"
    if output.saturated and output.size == "none":
        return f"Not enough data: {_hidden(output, alias)}."
    if output.size == "none":
        return f"The {what} moved by no more than noise: {measured}{proven}."
    shift = f"A {output.size} shift of the {what}: {measured}{proven}."
    return f"{shift} It may be larger: {_hidden(output, alias)}." if output.saturated else shift


def _hidden(output: OutputShift, alias: Alias) -> str:
    """How many scores all count alike, wherever they lie."""
    production, canary = (
        percent(arm.keys_out_of_range / arm.keys) for arm in (output.production, output.canary)
    )
    what, where = ("labels", "on no list") if output.kind == "class" else ("scores", "out of range")
    whose = f"{production} of production's {what} and {canary} of those of {alias_phrase(alias)}"
    return f"{whose} are {where}, where all count alike"


def _split(one: SplitCheck, alias: Alias) -> str:
    if one.observed_share is None:
        return "Not enough data: no keys yet."
    due = percent(one.expected_share)
    # Where a third alias has keys, both shares are of those of production and this one alone.
    of = "keys seen" if one.pair_share >= 1.0 else "keys of these two"
    keys = f"{alias_phrase(alias)} has {percent(one.observed_share)} of the {of}, {due} are due"
    if one.verdict is Verdict.FAIL:
        return f"Split skew: {keys}. What is compared here may be wrong."
    if one.verdict is Verdict.PASS:
        return f"{_capital(keys)}."
    return f"Not enough data: {keys}."
