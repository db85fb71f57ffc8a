"""Routes of one registered model, salted so that the published vectors say where a key goes."""

from collections.abc import Mapping
from types import MappingProxyType

from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.routing import ModelRoutes
from router.core.split import BUCKETS, Split

CHALLENGER = Alias("challenger")
ALIASES = (PRODUCTION, CANARY, CHALLENGER)
V6, V7, V8, V9 = (VersionId("sentiment", number) for number in (6, 7, 8, 9))

LOW, MIDDLE, TOP = "user-2", "user-1", "42"
"""Keys of the published vectors, in buckets 418, 62121 and 90928."""

SPLIT = Split(5_000, (CHALLENGER, 10_000))
BOTH = {PRODUCTION: V7, CANARY: V8}
EVERYONE = {**BOTH, CHALLENGER: V9}
ALL = frozenset(ALIASES)
NOBODY: frozenset[Alias] = frozenset()
NO_CAPS: Mapping[Alias, int] = MappingProxyType({})


def routes(
    bound: dict[Alias, VersionId],
    aspired: frozenset[Alias] = ALL,
    broken: frozenset[Alias] = NOBODY,
    split: Split = SPLIT,
    capped: Mapping[Alias, int] = NO_CAPS,
    gated: frozenset[Alias] = NOBODY,
) -> ModelRoutes:
    """Routes of the registered model `sentiment`, salted as the published vectors are."""
    return ModelRoutes("sentiment", "sentiment", split, bound, aspired, broken, capped, gated)


some_caps = st.dictionaries(st.sampled_from([CANARY, CHALLENGER]), st.integers(0, BUCKETS))
some_routes = st.builds(
    routes,
    st.dictionaries(st.sampled_from(ALIASES), st.sampled_from([V6, V7, V8])),
    st.frozensets(st.sampled_from(ALIASES)),
    st.frozensets(st.sampled_from(ALIASES)),
    st.tuples(st.integers(0, BUCKETS), st.integers(0, BUCKETS)).map(
        lambda shares: Split(min(shares), (CHALLENGER, max(shares) - min(shares)))
    ),
    some_caps,
    st.frozensets(st.sampled_from([CANARY, CHALLENGER])),
)
some_keys = st.none() | st.text(st.characters(exclude_categories=["Cs"])) | st.binary()
