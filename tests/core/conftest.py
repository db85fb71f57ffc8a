"""Properties are tried on the same examples everywhere: a red test here is red on every machine."""

from hypothesis import HealthCheck, settings

from tests.support.examples import USUAL, examples

settings.register_profile(
    "core",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=examples(USUAL),
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("core")
