"""The factor by which bounds in seconds are widened is measured within bounds, once, and can be given."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import slowness
from tests.support.slowness import AT_LEAST, GIVEN, MOST, REFERENCE_SECONDS, factor

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
TEST = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range(4))
def test_which(number, slack, worker_id, request):
    timeout = request.node.get_closest_marker("timeout").args[0]
    pathlib.Path(__file__).with_name(f"{worker_id}.{number}").write_text(f"{slack:g} {timeout / 300:g}")
"""
"""Each worker of xdist writes down which factor it has, and how far the limit of its tests is widened."""


def times(**longer: float) -> Mapping[str, float]:
    """What one process measured: the reference's figures, those of `longer` by so much longer."""
    return {part: seconds * longer.get(part, 1.0) for part, seconds in REFERENCE_SECONDS.items()}


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        pytest.param([times()], 1.0, id="the reference itself"),
        pytest.param([times(compute=0.1, start=0.1, round_trips=0.1)], 1.0, id="a faster machine"),
        pytest.param([times(start=2.4)], 2.4, id="the slowest part counts"),
        pytest.param([times(compute=2.0), times(compute=4.0)], 3.0, id="the mean of all processes"),
        pytest.param([times(round_trips=1e6)], MOST, id="a machine that stands still"),
    ],
)
def test_the_factor_is_from_1_to_20(measured: list[Mapping[str, float]], expected: float) -> None:
    assert factor(measured) == expected


def test_a_lower_bound_lifts_what_is_measured_and_nothing_lifts_it_over_20() -> None:
    assert factor([times(start=2.4)], at_least=3.0) == 3.0
    assert factor([times(start=4.0)], at_least=3.0) == 4.0
    assert factor([times()], at_least=100.0) == MOST


def test_every_process_measures_every_part() -> None:
    measured = slowness.measure(2)

    assert len(measured) == 2
    for one in measured:
        assert one.keys() == REFERENCE_SECONDS.keys()
        assert min(one.values()) > 0


def test_a_factor_that_is_given_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIVEN, "2.5")
    monkeypatch.setenv(AT_LEAST, "3")
    monkeypatch.setattr(slowness, "measure", None)

    assert slowness.settle(2) == "slowness 2.5 (CI_SLACK)"
    assert slowness.slack() == 2.5


def test_what_is_measured_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """To workers of xdist and to whatever tests start, which read the same variable."""
    monkeypatch.delenv(GIVEN, raising=False)
    monkeypatch.delenv(AT_LEAST, raising=False)
    monkeypatch.setattr(slowness, "measure", lambda processes: [times(start=2.4)] * processes)
    try:
        assert slowness.settle(2) == "slowness 2.4 (measured)"
        assert os.environ[GIVEN] == "2.4"
        assert slowness.settle(2) == "slowness 2.4 (CI_SLACK)", (
            "what is started by now does not measure again"
        )

        del os.environ[GIVEN]
        monkeypatch.setenv(AT_LEAST, "3")
        assert slowness.settle(2) == "slowness 3 (measured, at least 3)"
    finally:
        os.environ.pop(GIVEN, None)


def test_both_workers_of_xdist_have_the_factor_of_the_header(tmp_path: Path) -> None:
    for name in ("test_which.py", "test_what.py"):  # each process runs one of them
        (tmp_path / name).write_text(TEST)
    environment = {name: value for name, value in os.environ.items() if name not in (GIVEN, AT_LEAST)}
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *plugins, "-n", "2", "-c", str(PYPROJECT), str(tmp_path)]

    done = subprocess.run(command, env=environment, cwd=PYPROJECT.parent, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    header = re.search(r"^slowness (\S+) \(measured\)$", done.stdout, re.MULTILINE)
    assert header, done.stdout
    found = {one.name.partition(".")[0]: one.read_text() for one in tmp_path.glob("gw*")}
    assert found == {"gw0": f"{header[1]} {header[1]}", "gw1": f"{header[1]} {header[1]}"}
