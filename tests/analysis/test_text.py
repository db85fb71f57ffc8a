"""What is said of a verdict, in every situation that has words of its own."""

from dataclasses import replace
from typing import Any

import pytest

from router.analysis import shadow_text, text
from router.analysis.checks import Check, LatencyCheck, RateCheck, Report, ScoreCheck, SplitCheck
from router.analysis.criteria import Criteria
from router.analysis.paired_check import PairedCheck, PairedEvidence
from router.analysis.run_state import RunState
from router.analysis.statistics.records import Ranges, RunCell
from router.analysis.statistics.shadow_record import ShadowCounts, ShadowRecord
from router.core.ids import Alias
from router.core.scores import ScoreSpec
from router.core.verdict import Verdict

PASS, FAIL, WAITS = Verdict.PASS, Verdict.FAIL, Verdict.NOT_ENOUGH_DATA


def report() -> Report:
    state, split = RunState.begin(Criteria(), ScoreSpec(), 0), Ranges((5_000, 100_000), (0, 5_000))
    state.fold(11, [RunCell(compares=True, began_with=split)])
    return state.report()


def rate(check: RateCheck, canary: tuple[int, int], production: tuple[int, int], **changes: Any) -> RateCheck:
    """Requests and events of both arms."""
    arms = [
        replace(arm, requests=n, events=x, rate=x / n if n else None, keys=n)
        for arm, (n, x) in zip((check.canary, check.production), (canary, production), strict=True)
    ]
    known = arms[0].rate is not None and arms[1].rate is not None
    difference = arms[0].rate - arms[1].rate if known else None  # type: ignore[operator]
    given = {"keys_enough": True, "requests_enough": True, "will_not_pass": False, **changes}
    return replace(check, canary=arms[0], production=arms[1], difference=difference, **given)


def faults(canary: tuple[int, int], production: tuple[int, int] = (10_000, 10), **changes: Any) -> RateCheck:
    return rate(report().faults, canary, production, **changes)


def latency(canary: tuple[int, int], **changes: Any) -> RateCheck:
    return rate(replace(report().latency, edge_seconds=0.025), canary, (10_000, 500), **changes)


def over(arms: tuple[str, ...]) -> RateCheck:
    """A latency check of which these arms are beyond the last edge."""
    check = report().latency
    each = {arm: replace(check.quantiles_over_last_edge.canary, p95=True) for arm in arms}
    flags = replace(check.quantiles_over_last_edge, **each)
    beyond = replace(check, edge_seconds=60.0, unmeasured="over_last_edge", quantiles_over_last_edge=flags)
    return rate(beyond, (1000, 1000), (10_000, 10_000))


FAULTS = {
    "no traffic": (faults((0, 0)), "Not enough data: no requests of the canary that carry a key yet."),
    "no production": (
        faults((10, 0), (0, 0)),
        "Not enough data: no requests of production that carry a key yet.",
    ),
    "too few": (
        faults((31, 0), requests_needed=640, seconds_needed=2400.0, requests_enough=False),
        "Not enough data: 31 of about 640 canary requests; about 40 min at this rate.",
    ),
    "one key": (
        replace(faults((700, 0), keys_enough=False), canary=replace(faults((700, 0)).canary, keys=1)),
        "Not enough data: 700 canary requests of 1 key; 20 are needed.",
    ),
    "heavy keys": (
        faults((700, 0), keys_enough=False),
        "Not enough data: 700 canary requests of 700 keys, but a few of them ask for nearly all.",
    ),
    "on its way to fail": (
        faults((200, 8), requests_needed=1000, fail_seconds=720.0, interval=(0.01, 0.07)),
        (
            "Not enough data: 200 of about 1000 canary requests. "
            "If it goes on like this, it fails in about 12 min."
        ),
    ),
    "fails": (
        faults((1000, 33), verdict=FAIL, failed_by="cumulative"),
        "The canary fails 3.2 points more of its requests than production (3.3 % against 0.1 %): proven.",
    ),
    "fails by another alpha": (
        faults((1000, 33), verdict=FAIL, failed_by="cumulative", alpha=0.05),
        (
            "The canary fails 3.2 points more of its requests than production (3.3 % against 0.1 %): "
            "proven, at alpha 0.05."
        ),
    ),
    "an outage": (
        faults((50, 50), verdict=FAIL, failed_by="outage"),
        "The canary failed at least 25 of 50 requests in a row that production answered.",
    ),
    "passes": (
        faults((5000, 6), verdict=PASS, margin=0.005),
        (
            "The canary fails at most 0.5 points more of its requests than production (0.1 % against 0.1 %, "
            "5000 canary requests)."
        ),
    ),
    "production fails": (
        faults((1000, 120), (10_000, 1200), production_failing=True),
        "Production itself fails 12 % of its requests: no pass.",
    ),
    "between": (
        faults((5000, 25), will_not_pass=True, requests_needed=None),
        (
            "The canary fails 0.4 points more of its requests than production (0.5 % against 0.1 %): "
            "not proven so far, and at these rates it does not pass."
        ),
    ),
    "slow": (
        latency((1000, 150), verdict=FAIL, failed_by="epoch"),
        (
            "The canary answers 10 points more of its requests in over 25 ms than production (15 % "
            "against 5 %): proven."
        ),
    ),
    "durations beyond the last edge": (
        over(("production", "canary")),
        (
            "Not enough data: the 95th percentile of production and of the canary is over 600 s, beyond "
            "which all durations are counted alike."
        ),
    ),
    "the canary's alone beyond it": (
        over(("canary",)),
        (
            "Not enough data: the 95th percentile of the canary is over 600 s, beyond which all durations "
            "are counted alike."
        ),
    ),
    "production is always slow": (
        rate(
            replace(report().latency, edge_seconds=0.025), (1000, 1000), (9000, 9000), unmeasured="all_slow"
        ),
        (
            "Not enough data: production itself answers 100 % of its requests in over 25 ms, so that a "
            "slower canary would look the same."
        ),
    ),
    "what is slow is not known": (
        replace(latency((0, 0)), edge_seconds=None),
        "Not enough data: what is slow is not known before production's first 200 requests.",
    ),
}


@pytest.mark.parametrize(("check", "said"), FAULTS.values(), ids=FAULTS)
def test_a_check_of_rates_is_reported_in_one_sentence_or_two(check: RateCheck, said: str) -> None:
    assert text.check_sentence(check) == said


TOO_EARLY = {
    "the interval holds 0": {"interval": (-0.004, 0.03)},
    "there is no interval": {"interval": None},
    "what is proven would be too small to fail": {"interval": (0.001, 0.03), "limit": 0.05},
    "a pass is due before": {"interval": (0.001, 0.03), "seconds_needed": 180.0},
}


@pytest.mark.parametrize("known", TOO_EARLY.values(), ids=TOO_EARLY)
def test_a_difference_that_may_be_nothing_is_no_forecast_of_a_fail(known: dict[str, Any]) -> None:
    """One fault in the first six seconds of a healthy canary would be one."""
    check = faults((200, 2), **{"requests_needed": 1000, "fail_seconds": 2280.0, **known})
    assert "fails in about" not in text.check_sentence(check)


@pytest.mark.parametrize("needed", [None, 3600.0])
def test_a_fail_that_comes_before_a_pass_could_is_reported(needed: float | None) -> None:
    known = {"requests_needed": 1000, "seconds_needed": needed, "interval": (0.001, 0.03)}
    check = faults((200, 2), fail_seconds=2280.0, **known)
    assert text.check_sentence(check).endswith(" If it goes on like this, it fails in about 38 min.")


def scores(**changes: Any) -> ScoreCheck:
    check = report().scores
    assert check is not None
    return replace(check, outputs=(replace(check.outputs[0], **changes),))


def split(verdict: Verdict, observed: float | None) -> SplitCheck:
    return replace(report().split, verdict=verdict, observed_share=observed)


OTHERS = {
    "no scores": (
        scores(),
        "Not enough data: 0 canary keys and 0 of production have a score; 50 of each are needed.",
    ),
    "answers without a score": (
        scores(canary=replace(scores().outputs[0].canary, invalid=878)),
        (
            "Not enough data: 0 canary keys and 0 of production have a score; 50 of each are needed. "
            "878 answers of the canary have none that can be counted."
        ),
    ),
    "no shift": (
        scores(psi=0.03, noise=0.05, size="none"),
        "The scores moved by no more than noise: PSI 0.03 (noise 0.05).",
    ),
    "a shift": (
        scores(psi=0.23, noise=0.05, size="moderate", proven=True),
        "A moderate shift of the scores: PSI 0.23 (noise 0.05), proven.",
    ),
    "the canary's scores can not be counted": (
        scores(uncounted="canary", canary=replace(scores().outputs[0].canary, scores=40, invalid=600)),
        "No pass: 600 of 640 answers of the canary hold no score that can be counted.",
    ),
    "production's can not": (
        scores(uncounted="production", production=replace(scores().outputs[0].canary, invalid=90)),
        "No pass: 90 of 90 answers of production hold no score that can be counted.",
    ),
    "of classes": (
        scores(psi=0.43, noise=0.05, size="large", kind="class"),
        "A large shift of the classes: PSI 0.43 (noise 0.05).",
    ),
    "no keys": (split(WAITS, None), "Not enough data: no keys yet."),
    "few keys": (
        split(WAITS, 0.1),
        "Not enough data: the canary has 10 % of the keys seen, 5 % are due.",
    ),
    "as due": (split(PASS, 0.049), "The canary has 4.9 % of the keys seen, 5 % are due."),
    "skew": (
        split(FAIL, 0.031),
        "Split skew: the canary has 3.1 % of the keys seen, 5 % are due. What is compared here may be wrong.",
    ),
}


@pytest.mark.parametrize(("check", "said"), OTHERS.values(), ids=OTHERS)
def test_what_is_only_reported_has_its_words_too(check: ScoreCheck | SplitCheck, said: str) -> None:
    assert text.check_sentence(check) == said


SHADOW = Alias("shadow")
OF_SHADOW = {
    FAULTS["no traffic"][0]: "Not enough data: no requests of alias shadow that carry a key yet.",
    FAULTS["no production"][0]: "Not enough data: no requests of production that carry a key yet.",
    FAULTS["too few"][0]: "Not enough data: 31 of about 640 shadow requests; about 40 min at this rate.",
    FAULTS["an outage"][0]: (
        "Alias shadow failed at least 25 of 50 requests in a row that production answered."
    ),
    FAULTS["passes"][0]: (
        "Alias shadow fails at most 0.5 points more of its requests than production (0.1 % against 0.1 %, "
        "5000 shadow requests)."
    ),
    replace(split(PASS, 0.108), expected_share=1 / 9, pair_share=0.9): (
        "Alias shadow has 11 % of the keys of these two, 11 % are due."
    ),
    scores(): "Not enough data: 0 shadow keys and 0 of production have a score; 50 of each are needed.",
}


@pytest.mark.parametrize(("check", "said"), OF_SHADOW.items())
def test_a_further_alias_is_called_by_its_name_and_never_the_canary(check: Check, said: str) -> None:
    assert text.check_sentence(check, SHADOW) == said


def test_the_whole_of_a_further_alias_bears_its_name() -> None:
    passed = replace(report(), verdict=PASS, faults=faults((5000, 6), verdict=PASS))
    reported = text.verdict_sentence(passed, "", SHADOW)
    assert reported.startswith("Alias shadow is no worse than production")
    assert "canary" not in reported


def whole(verdict: Verdict, faults: RateCheck, latency: RateCheck) -> str:
    assert isinstance(latency, LatencyCheck)
    return text.verdict_sentence(replace(report(), verdict=verdict, faults=faults, latency=latency), "")


def test_the_whole_is_reported_by_what_decides_it() -> None:
    fails = faults((1000, 33), verdict=FAIL, failed_by="cumulative")
    good = latency((1000, 50), verdict=PASS)
    assert whole(FAIL, fails, good) == text.check_sentence(fails)

    soon = faults((31, 0), requests_needed=640)
    later = latency((31, 0), requests_needed=2000)
    assert whole(WAITS, soon, later) == text.check_sentence(later), "then all is known"
    beyond = over(("production", "canary"))
    assert whole(WAITS, soon, beyond) == text.check_sentence(beyond), "nor here"
    broken = faults((31, 4), (1000, 120), production_failing=True)
    assert whole(WAITS, broken, later) == text.check_sentence(broken), "no number of requests would help"
    passes = faults((5000, 6), verdict=PASS)
    assert whole(PASS, passes, good).startswith("The canary is no worse than production")


def test_scores_that_nobody_can_count_are_reported_whatever_else_is_missing() -> None:
    uncounted = scores(uncounted="canary", canary=replace(scores().outputs[0].canary, invalid=600))
    for checks in (
        {"faults": faults((5000, 6), verdict=PASS), "latency": latency((5000, 250), verdict=PASS)},
        {"faults": faults((600, 0), requests_needed=1000, seconds_needed=60.0)},
    ):
        reported = text.verdict_sentence(replace(report(), verdict=WAITS, scores=uncounted, **checks), "")
        assert reported == text.check_sentence(uncounted)
    fails = faults((1000, 33), verdict=FAIL, failed_by="cumulative")
    assert text.verdict_sentence(
        replace(report(), verdict=FAIL, scores=uncounted, faults=fails), ""
    ) == text.check_sentence(fails)


def test_what_rests_says_why_beside_what_is_known() -> None:
    assert text.verdict_sentence(None, "both serve v1") == "Not compared: both serve v1."
    passed = replace(report(), verdict=PASS, faults=faults((5000, 6), verdict=PASS))
    reported = text.verdict_sentence(passed, "its share is 0 %")
    assert reported.startswith("The canary is no worse than production")
    assert reported.endswith(" Not compared now: its share is 0 %.")


def test_where_nothing_is_known_of_what_rests_only_why_it_rests_is_said() -> None:
    """Nothing arrives while a share is 0 %, so neither its absence nor a forecast says anything."""
    for obstacle in ("its share is 0 %", "production's share is 0 %"):
        assert text.verdict_sentence(report(), obstacle) == f"Not compared now: {obstacle}."


@pytest.mark.parametrize("verdict", [WAITS, PASS])
def test_an_open_breaker_is_reported_with_its_reason_and_without_praise_or_forecast(verdict: Verdict) -> None:
    """It counts crashes and requests without a key, too, so it opens where the evidence proves nothing."""
    why = "its breaker is open (it crashed 3 times in 60 s), and production has its share"
    known = faults((200, 2), verdict=verdict, requests_needed=1000, seconds_needed=60.0, fail_seconds=30.0)
    judged = replace(report(), verdict=verdict, faults=known)
    assert text.verdict_sentence(judged, why, broken=True) == f"Not compared now: {why}."


def test_a_proven_fail_is_reported_also_while_the_breaker_is_open() -> None:
    fails = replace(report(), verdict=FAIL, faults=faults((50, 50), verdict=FAIL, failed_by="outage"))
    reported = text.verdict_sentence(fails, "its breaker is open", broken=True)
    assert reported == f"{text.check_sentence(fails.faults)} Not compared now: its breaker is open."


def copies(pairs: int, canary: int, production: int = 0, *, both: int = 0, **said: Any) -> PairedCheck:
    """So many compared, and failed by one version alone."""
    evidence = PairedEvidence(Criteria(shadow=True), 0)
    counts = ShadowCounts(pairs, production + both, canary + both, both, said.pop("agreed", pairs))
    for name in [name for name in said if name in counts.__struct_fields__]:
        setattr(counts, name, said.pop(name))
    evidence.take(5, ShadowRecord(counts, **said.pop("record", {})))
    return replace(evidence.check(), **said)


COPIES = {
    "none": (copies(0, 0), "Not enough data: no copies of production's requests were compared yet."),
    "dropped": (
        copies(0, 0, dropped=12),
        "Not enough data: no copies of production's requests were compared yet (12 were dropped).",
    ),
    "few": (
        copies(340, 1),
        (
            "Not enough data: 340 of about 1281 copies of production's requests; the canary alone failed 1 "
            "and production alone 0."
        ),
    ),
    "no sign": (
        copies(2600, 3, 2, pairs_needed=1500),
        "No sign in 2600 copies of production's requests: the canary alone failed 3 and production alone 2.",
    ),
    "fails": (
        copies(2600, 31, 2, verdict=FAIL, judges=True),
        "Of 2600 copies of production's requests the canary alone failed 31 and production alone 2: proven.",
    ),
}


@pytest.mark.parametrize(("check", "sentence"), COPIES.values(), ids=COPIES)
def test_copies_have_sentences_of_their_own(check: PairedCheck, sentence: str) -> None:
    assert text.check_sentence(check) == sentence
    waits = replace(report(), verdict=check.verdict, shadow=check, share=0.0)
    assert text.verdict_sentence(waits, "") == sentence, "at a share of 0 % there is nothing else"
    routed = replace(waits, share=0.05)
    assert (text.verdict_sentence(routed, "") == sentence) == (check.verdict is FAIL)


def test_what_copies_show_beside_their_faults_is_one_sentence() -> None:
    assert shadow_text.shown_differences(copies(10, 1)) == ""
    record = {
        "differences": {0: 3, 7: 4},
        "raised": {1, 2},
        "lowered": {3},
        "production_durations": {100: 7},
        "canary_durations": {120: 7},
    }
    more = {"agreed": 6, "flips": 2, "rows": 40, "other_type": 1, "record": record}
    assert shadow_text.shown_differences(copies(10, 1, **more)) == (
        "Of copies: 6 of 10 copies agree; 2 of 40 rows have another label; the first score rises for 2 keys "
        "and falls for 1; another type of answer in 1; half of the predicts took over 28.1 ms against "
        "10.8 ms, which is judged by nothing."
    )


def test_how_many_copies_show_a_point_is_said_with_the_time_where_that_is_known() -> None:
    check = copies(100, 0)
    assert shadow_text.pairs_needed(check, "2 min") == (
        "A 1-point error difference shows in about 1281 copies, in about 2 min at this rate."
    )
    assert shadow_text.pairs_needed(check, "") == "A 1-point error difference shows in about 1281 copies."
    assert shadow_text.pairs_needed(replace(check, pairs_needed=None), "") == ""


def test_when_a_point_would_show_is_reported_where_it_is_known() -> None:
    assert text.detectable_difference(faults((31, 0), seconds_to_show_point=2400.0)) == (
        "A 1-point error difference shows in about 40 min at this rate."
    )
    assert text.detectable_difference(faults((0, 0))) == ""
