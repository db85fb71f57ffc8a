"""On how many examples a property is tried: on all of them in `make faults`, on fewer in every other run."""

import os

USUAL = 100
"""As many as Hypothesis takes where nothing else is asked for."""


def examples(number: int) -> int:
    """Of `number`, a third, and ten at least; where FAULTS is set, all.

    A property that does not hold at all fails on the first few; the rest take longer than all other tests of
    pure functions together.
    """
    return number if os.environ.get("FAULTS") else max(number // 3, min(number, 10))
