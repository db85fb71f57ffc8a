"""The edges at which durations of requests are counted, everywhere."""

REQUEST_SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper edges in seconds, ascending; whatever takes longer than the last one counts beyond it."""
