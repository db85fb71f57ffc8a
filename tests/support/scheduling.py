"""Which tests run in one process, and in what order groups begin: by what is dear to set up, and by time.

As with `--dist loadfile` a file is one group. Files whose fixtures take seconds to make, such as a registry
behind a server, are one group together: else each process makes them anew. Groups that take long begin first,
so that none of them runs alone at the end.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/adapters/test_registry", "tests/demo/")
"""Files whose path begins alike are one group."""
FIRST = (
    "tests/e2e/test_own_environment.py",  # most of it is a build that others go before
    "tests/fleet/",
    "tests/deploy/test_live.py",
    "tests/demo/",
    "tests/adapters/test_registry",
    "tests/test_docs.py",
    "tests/e2e/test_promotion.py",
    "tests/stories/",
    "tests/e2e/test_damage.py",
    "tests/processes/test_template",
    "tests/e2e/",
    "tests/page/",
    "tests/faults/",
    "tests/deploy/",
    "tests/processes/",
)
"""Those that take longest, longest first; what starts no gateway fills the gaps at the end."""


class GroupScheduling(LoadScopeScheduling):
    """Hands out groups in the order in which their first tests were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """The group of a test."""
    return next((start for start in TOGETHER if nodeid.startswith(start)), nodeid.partition("::")[0])


def longest_first(items: list[pytest.Item]) -> None:
    """Put tests of groups that take long before all others; else the order stays."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    return next((rank for rank, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))
