"""A registry seeded once for all tests of the demo, by a demo that was played whole."""

import pytest

from router.demo.dataset import Dataset
from router.demo.workspace import Workspace, seeded
from tests.support.demo_run import PlayedDemo, played_demo


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> PlayedDemo:
    """The demo, which has trained and registered its versions."""
    return played_demo(tmp_path_factory)


@pytest.fixture(scope="session")
def seeded_place(played: PlayedDemo) -> Workspace:
    """Its directory, which the next demo finds seeded."""
    return played.place


@pytest.fixture(scope="session")
def datasets(seeded_place: Workspace) -> dict[str, Dataset]:
    """What the seeded registry says it holds."""
    found = seeded(seeded_place)
    assert found is not None
    return found
