"""kill −9 between any two steps: what was answered as durable is there, and every file can be read."""

import json
import subprocess
import sys
from pathlib import Path

from router.adapters.state.journal_files import JournalFiles
from tests.support.journals import entries_of
from tests.support.slowness import slack


def test_a_writer_that_is_killed_before_any_of_its_steps_loses_nothing_durable(tmp_path: Path) -> None:
    """Each one begins with what the one before it left, which was killed a step earlier."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.state.kill_steps", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=60 * slack(),
    )

    assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lives) > 40, "every step was one that killed"
    assert lives[-1]["code"] == 0
    assert lives[-1]["durable"], "the last one came to its end"
    highest = 0
    for life in lives:
        highest = max([highest, *life["durable"]])
        assert max(life["kept"], default=0) >= highest, life
    JournalFiles(tmp_path / "state").open()
    assert entries_of(tmp_path / "state")
