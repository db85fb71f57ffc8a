"""Two million rows, measured in a process of their own. What one row takes is in `test_kept_rows.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Figure

ROOT = Path(__file__).resolve().parents[2]
ROWS = 2_000_000
MOST_MIB = 1024
SCRIPT = "tests.gate.compare_many_rows"


def run(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", SCRIPT, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "holdout.parquet"
    run("write", str(path), str(ROWS))
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("metric", "notes"),
    [("roc_auc", []), ("f1", ["100 resamples in the place of 2000, for 2000000 rows"])],
)
def test_two_million_rows_in_groups_are_compared_within_a_gibibyte(
    metric: str, notes: list[str], many_rows: Path, figure: Figure
) -> None:
    found = json.loads(run("compare", str(many_rows), metric))

    figure(f"{found['mib']:.0f} MiB at most, {found['seconds']:.0f} s")
    assert found["rows"] == ROWS
    assert found["groups"] > 300_000
    assert found["notes"] == notes
    assert found["low"] > 0
    assert found["mib"] < MOST_MIB
