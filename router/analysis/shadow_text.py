"""What the check of shadow requests says in sentences."""

from router.analysis.paired_check import PairedCheck
from router.core.verdict import Verdict


def shadow_sentence(one: PairedCheck, who: str, proven: str) -> str:
    """Its verdict. `who`: the alias that gets the copies, as in `text.alias_phrase`; `proven`: how sure."""
    counts, failed, others = one.counts, one.canary.alone, one.production.alone
    if not counts.pairs:
        dropped = f" ({counts.dropped} were dropped)" if counts.dropped else ""
        return f"Not enough data: no copies of production's requests were compared yet{dropped}."
    alone = f"{who} alone failed {failed} and production alone {others}"
    if one.verdict is Verdict.FAIL:
        return f"Of {counts.pairs} copies of production's requests {alone}: {proven}."
    if one.shows_none:
        return f"No sign in {counts.pairs} copies of production's requests: {alone}."
    needed = "" if one.pairs_needed is None else f" of about {one.pairs_needed}"
    return f"Not enough data: {counts.pairs}{needed} copies of production's requests; {alone}."


def pairs_needed(one: PairedCheck, time: str) -> str:
    """How many copies show a difference worth knowing. `time`: how long they take; empty while unknown."""
    if one.pairs_needed is None:
        return ""
    taking = f", in about {time} at this rate" if time else ""
    return f"A 1-point error difference shows in about {one.pairs_needed} copies{taking}."


def shown_differences(one: PairedCheck) -> str:
    """What else differs in copies that both versions answered, judged by nothing; empty without any."""
    counts, scores = one.counts, one.scores
    if not any(scores.counts) and not counts.rows and one.canary.seconds.p50 is None:
        return ""
    parts = [f"{counts.agreed} of {counts.pairs} copies agree"]
    if counts.rows:
        parts.append(f"{counts.flips} of {counts.rows} rows have another label")
    if any(scores.counts):
        parts.append(f"the first score rises for {scores.raised} keys and falls for {scores.lowered}")
    for what, number in (("type", counts.other_type), ("length", counts.other_length)):
        if number:
            parts.append(f"another {what} of answer in {number}")
    canary, production = one.canary.seconds.p50, one.production.seconds.p50
    if canary is not None and production is not None:
        median = f"{canary * 1e3:.3g} ms against {production * 1e3:.3g} ms"
        parts.append(f"half of the predicts took over {median}, which is judged by nothing")
    return f"Of copies: {'; '.join(parts)}."
