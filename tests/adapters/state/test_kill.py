"""kill −9 between any two steps: what was answered as durable is there, and every file can be read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from router.adapters.state.journal_files import JournalFiles
from tests.support.journals import entries_of
from tests.support.slowness import slack


def lives_of(module: str, directory: Path) -> list[dict[str, Any]]:
    """Of writers that were killed a step later each, until one came to its end."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.adapters.state.{module}", str(directory)],
        capture_output=True,
        text=True,
        timeout=60 * slack(),
    )
    assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lives) > 40, "every step was one that killed"
    return lives


def test_a_writer_that_is_killed_before_any_of_its_steps_loses_nothing_durable(tmp_path: Path) -> None:
    """Each one begins with what the one before it left, which was killed a step earlier."""
    lives = lives_of("kill_steps", tmp_path / "state")
    assert lives[-1]["code"] == 0
    assert lives[-1]["durable"], "the last one came to its end"
    highest = 0
    for life in lives:
        highest = max([highest, *life["durable"]])
        assert max(life["kept"], default=0) >= highest, life
    JournalFiles(tmp_path / "state").open()
    assert entries_of(tmp_path / "state")


def test_a_writer_of_evidence_that_is_killed_before_any_of_its_steps_loses_nothing_it_had_written(
    tmp_path: Path,
) -> None:
    """What is kept never goes back, and no request is in it twice."""
    lives = lives_of("kill_evidence", tmp_path / "state")

    kept = 0
    for life in lives:
        assert life["set_aside"] == [], "a state is whole or not there"
        assert life["kept"] >= max([kept, *life["answered"]]), life
        assert life["kept"] <= max([kept, *life["answered"]]) + 1, "at most what was being written"
        assert not any(life["clean"]) or life["answered"][-1:] in ([], [life["kept"]]), "nothing is lost then"
        kept = life["kept"]
    assert lives[-1]["clean"] == [True]
