"""The unit for systemd, in the hands of its own checker, beside what the gateway does."""

import shutil
import subprocess
from pathlib import Path

import pytest

from router.settings import Settings
from tests.deploy.conftest import DEPLOY

UNIT = DEPLOY / "systemd" / "canary-router.service"
SETTINGS = Settings.model_validate({"models": {"sentiment": {}}})


def directives() -> dict[str, str]:
    """Of all sections; none is written twice."""
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    pairs = [line.split("=", 1) for line in lines]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing; the Debian package `systemd` has it")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def verified(text: str, directory: Path) -> str:
    """What systemd says against a unit, whose program is made one that is here; empty for nothing."""
    program = directives()["ExecStart"].split()[0]
    unit = directory / UNIT.name
    unit.write_text(text.replace(program, shutil.which("true") or "/bin/true"))
    done = analyzed("verify", "--man=no", str(unit))
    # Of units of this machine, which the check loads too, nothing is ours.
    about = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.stem in line]
    return "\n".join(about)


def test_systemd_has_nothing_against_it(tmp_path: Path) -> None:
    assert verified(UNIT.read_text(), tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "said"), [("KillMode=mixed", "KillMode=gentle", 1), ("OOMPolicy=", "OOMPolitics=", 0)]
)
def test_a_slip_in_it_would_be_noticed(right: str, wrong: str, said: int, tmp_path: Path) -> None:
    assert UNIT.read_text().count(right) == 1

    assert wrong.split("=")[said] in verified(UNIT.read_text().replace(right, wrong), tmp_path)


def test_it_can_do_little() -> None:
    done = analyzed("security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT))

    assert done.returncode == 0, "an exposure of 2.0 or more\n" + done.stdout[-300:]


def test_it_waits_longer_than_the_gateway_drains() -> None:
    assert float(directives()["TimeoutStopSec"]) >= SETTINGS.server.drain_seconds + 10


def test_the_directories_that_it_makes_are_those_that_the_gateway_uses() -> None:
    unit = directives()
    name, value = unit["Environment"].split("=", 1)
    state = Path("/var/lib", unit["StateDirectory"])
    environment = {name: value, "STATE_DIRECTORY": str(state)}
    places = SETTINGS.registry.places(environment)

    assert SETTINGS.state_directory(environment) == state == Path(unit["WorkingDirectory"])
    assert places.working_directories == Path("/var/cache", unit["CacheDirectory"])
    assert places.cache_dir.parent == places.working_directories
    assert unit["StateDirectoryMode"] == unit["CacheDirectoryMode"] == "0700"
