"""A registry seeded once for all tests of the demo; the directory's name has a space in it, on purpose."""

import subprocess
import sys

import pytest

from router.demo.dataset import Dataset
from router.demo.gateway_process import clean_environment
from router.demo.workspace import Workspace, seeded, workspace

SEED_SECONDS = 180.0


@pytest.fixture(scope="session")
def seeded_place(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Workspace:
    """A demo's directory with a registry, made by the command that the demo uses."""
    with workspace(tmp_path_factory.mktemp("demo") / "our demo") as place:
        subprocess.run(
            [sys.executable, "-m", "router.demo.train", str(place.root)],
            env=clean_environment(),
            check=True,
            capture_output=True,
            timeout=SEED_SECONDS * slack,
        )
    return place


@pytest.fixture(scope="session")
def datasets(seeded_place: Workspace) -> dict[str, Dataset]:
    """What the seeded registry says it holds."""
    found = seeded(seeded_place)
    assert found is not None
    return found
