"""A table of made-up telephone customers; every number comes from a seeded generator, none from a person."""

import numpy as np
import pandas as pd

BASIC = ("tenure_months", "monthly_charge", "contract_months", "support_calls_90d")
"""What the first version of the churn model looks at."""
FULL = (*BASIC, "logins_30d", "late_payments_12m")
"""What the second one looks at."""


def customers(count: int, seed: int) -> pd.DataFrame:
    """`count` customers: the columns of FULL as floats, and `churned` (0 or 1, about a quarter are 1).

    People leave early in a monthly contract, when they call support often, stop logging in or pay late;
    a high charge makes it worse for those who are not bound by a contract.
    """
    draw = np.random.default_rng(seed)
    tenure = np.ceil(draw.gamma(1.6, 16.0, count)).clip(1, 96)
    contract = draw.choice([1.0, 12.0, 24.0], count, p=[0.5, 0.3, 0.2])
    charge = draw.normal(42.0 + 6.0 * (contract == 1.0), 11.0).clip(9.0, 95.0).round(2)
    calls = draw.poisson(0.7 + 1.3 * draw.random(count) ** 3).astype(float)
    logins = draw.poisson(draw.gamma(2.0, 4.5, count)).astype(float)
    late = draw.binomial(6, 0.12, count).astype(float)
    leaning = (
        -2.9
        + 1.5 * (contract == 1.0)
        + 1.6 * np.exp(-tenure / 9.0)
        + 0.04 * (charge - 45.0) * (contract == 1.0)
        + 0.55 * calls
        + 0.9 * (logins < 4.0)
        + 0.5 * late
    )
    churned = draw.random(count) < 1.0 / (1.0 + np.exp(-leaning))
    columns = (tenure, charge, contract, calls, logins, late)
    table = pd.DataFrame(dict(zip(FULL, columns, strict=True)))
    return table.assign(churned=churned.astype(int))
