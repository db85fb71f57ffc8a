"""A registry seeded once for all tests of the demo; the directory's name has a space in it, on purpose."""

import subprocess
import sys

import pytest

from router.demo.gateway_process import clean_environment
from router.demo.material import Material
from router.demo.registry_seed import seeded
from router.demo.workspace import Workspace, workspace

SEED_SECONDS = 180.0


@pytest.fixture(scope="session")
def seeded_place(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Workspace:
    """A demo's directory with a registry, made by the command that the demo uses."""
    with workspace(tmp_path_factory.mktemp("demo") / "our demo") as place:
        subprocess.run(
            [sys.executable, "-m", "router.demo.registry_seed", str(place.root)],
            env=clean_environment(),
            check=True,
            capture_output=True,
            timeout=SEED_SECONDS * slack,
        )
    return place


@pytest.fixture(scope="session")
def materials(seeded_place: Workspace) -> dict[str, Material]:
    """What the seeded registry says it holds."""
    found = seeded(seeded_place)
    assert found is not None
    return found
