"""The verdict on a candidate: the only place of the gate that decides one."""

import math
from dataclasses import dataclass

from router.core.verdict import Verdict
from router.gate.statistics.difference import Difference

NOT_WORSE = "not worse"
BETTER = "better"
_LONGEST_WAY = 1e4
"""Times as far as the point is from the bound: an interval so much too wide takes 10⁸ times the rows."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What one bound on the difference says."""

    name: str
    """NOT_WORSE or BETTER."""
    bound: float
    """The least difference that passes, turned so that more is better: −max-loss, or min-gain."""
    verdict: Verdict
    sentence: str
    rows_to_decide: int | None = None
    """How many rows would decide if point and variance stay as they are seen. None: it is decided, or no
    number of rows would, because the point lies on the bound, or nothing is known of the variance."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Each criterion, and what follows of them."""

    verdict: Verdict
    criteria: tuple[Criterion, ...]

    @property
    def sentence(self) -> str:
        """What decided it, in one sentence: of those criteria that have this verdict."""
        return "; ".join(each.sentence for each in self.criteria if each.verdict is self.verdict)

    @property
    def rows_to_decide(self) -> int | None:
        """Rows that would decide all that is not decided; None where nothing is open, or none would."""
        rows = [each.rows_to_decide for each in self.criteria if each.verdict is Verdict.NOT_ENOUGH_DATA]
        known = [each for each in rows if each is not None]
        return max(known) if known and len(known) == len(rows) else None


def judge(difference: Difference, max_loss: float, min_gain: float | None = None) -> Judgement:
    """Judge the 95 % interval [l, u] of candidate minus production, turned so that more is better.

    *Not worse*: PASS when l ≥ −`max_loss`, FAIL when u < −`max_loss`. With `min_gain` also *better*: PASS
    when l ≥ `min_gain`, FAIL when u < `min_gain`. All must pass, one FAIL fails, else NOT_ENOUGH_DATA.
    Both are in units of the metric, finite, `max_loss` ≥ 0: ValueError otherwise, and for a NaN difference.
    """
    if not (math.isfinite(max_loss) and max_loss >= 0):
        raise ValueError("max_loss is a finite number, 0 or more")
    if min_gain is not None and not math.isfinite(min_gain):
        raise ValueError("min_gain is a finite number")
    if math.isnan(difference.point) or math.isnan(difference.low) or math.isnan(difference.high):
        raise ValueError("a difference that is no number can not be judged")
    allowed = f"a loss of {max_loss:g} is allowed" if max_loss else "no loss is allowed"
    criteria = [_criterion(difference, NOT_WORSE, -max_loss, allowed)]
    if min_gain is not None:
        criteria.append(_criterion(difference, BETTER, min_gain, f"a gain of {min_gain:g} is asked for"))
    verdicts = {each.verdict for each in criteria}
    if Verdict.FAIL in verdicts:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.NOT_ENOUGH_DATA
    return Judgement(verdict, tuple(criteria))


def _criterion(difference: Difference, name: str, bound: float, asked: str) -> Criterion:
    if difference.low >= bound:
        sentence = (
            f"{name}: {_amount(difference.low)} at {'most' if difference.low < 0 else 'least'}, {asked}"
        )
        return Criterion(name, bound, Verdict.PASS, sentence)
    if difference.high < bound:
        failed = "worse" if name == NOT_WORSE else f"not {name}"
        limit = "least" if difference.high < 0 else "most"
        sentence = f"{failed}: {_amount(difference.high)} at {limit}, {asked}"
        return Criterion(name, bound, Verdict.FAIL, sentence)
    rows = _rows_to_decide(difference, bound)
    if rows is not None:
        needed = f"about {rows} rows would decide at the seen variance, there are {difference.rows}"
    elif math.isinf(difference.low):
        why = f" ({'; '.join(difference.notes)})" if difference.notes else ""
        needed = f"{difference.rows} rows say too little to foresee how many would decide{why}"
    else:
        needed = "the seen difference is the bound itself, or nearly, so no number of rows is known to decide"
    seen = f"between {_amount(difference.low)} and {_amount(difference.high)}"
    sentence = f"open whether {name}: {seen}, {asked}; {needed}"
    return Criterion(name, bound, Verdict.NOT_ENOUGH_DATA, sentence, rows)


def _rows_to_decide(difference: Difference, bound: float) -> int | None:
    """Half an interval shrinks as 1/√rows: as many as make the half towards the bound as short as the way."""
    way = abs(difference.point - bound)
    half = (
        difference.point - difference.low if difference.point > bound else difference.high - difference.point
    )
    if not math.isfinite(half) or half > _LONGEST_WAY * way:
        return None
    return math.ceil(difference.rows * (half / way) ** 2)


def _amount(value: float) -> str:
    """A turned difference in words; three digits."""
    if math.isinf(value):
        return "any gain" if value > 0 else "any loss"
    return f"a loss of {-value:.3g}" if value < 0 else f"a gain of {value:.3g}"
