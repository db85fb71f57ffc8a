"""Shadow requests as tests see them: pairs in, cells folded, a check out."""

from typing import Any

from router.analysis.criteria import Criteria
from router.analysis.paired_check import PairedCheck
from router.analysis.statistics.shadow_counter import ShadowPair
from tests.analysis.statistics.observed import Observed, split_of

SHADOWED = Criteria(shadow=True)


def pair(bucket: int, *, share: float = 0.05, **said: Any) -> ShadowPair:
    """One request that both versions answered alike in 4 ms, but for what is `said`."""
    facts: dict[str, Any] = {
        "bucket": bucket,
        "split": said.pop("split", None) or split_of(share),
        "production_fault": False,
        "canary_fault": False,
        "agrees": True,
        "same_type": True,
        "same_length": True,
        "flips": 0,
        "rows": 1,
        "difference": 0.0,
        "production_seconds": 0.004,
        "canary_seconds": 0.004,
    }
    facts.update(said)
    if facts["production_fault"] or facts["canary_fault"]:
        facts.update(rows=0, difference=None)
        facts["agrees"] = facts["production_fault"] == facts["canary_fault"]
    return ShadowPair(**facts)


def shadowed(share: float = 0.05, **said: Any) -> Observed:
    """A run in which requests are shadowed, of which nothing is known yet."""
    return Observed(split_of(share), criteria=said.pop("criteria", SHADOWED), **said)


def check_of(observed: Observed, now: float | None = None) -> PairedCheck:
    """What its pairs say."""
    check = observed.report(now).shadow
    assert check is not None
    return check
