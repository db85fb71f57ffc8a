"""A process that crashes leaves its memory nowhere: requests and credentials are in it."""

import os
import subprocess
import sys
from pathlib import Path

CRASH = """
import os, resource
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
{forbid}
child = os.fork()
if child == 0:
    os.abort()
_, status = os.waitpid(child, 0)
print(os.WTERMSIG(status), os.WCOREDUMP(status), resource.getrlimit(resource.RLIMIT_CORE))
"""
FORBID = "from router.processes.process import forbid_core_dumps; forbid_core_dumps()"


def crash(directory: Path, forbid: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(forbid=forbid)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout.split(maxsplit=2)


def test_a_process_that_crashes_leaves_no_core_dump(tmp_path: Path) -> None:
    """Nor does one that it started; and nobody raises the limit again."""
    signal, dumped, limits = crash(tmp_path, FORBID)

    assert (signal, dumped) == ("6", "False")
    assert limits.strip() in ("(1, 1)", "(0, 0)")
    assert list(tmp_path.iterdir()) == []


def test_without_that_it_may(tmp_path: Path) -> None:
    """As far as the system allows: else the test above could not fail here."""
    _, dumped, limits = crash(tmp_path, "")
    if limits.strip() == "(0, 0)":
        return  # core dumps are off for whoever runs this

    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    assert dumped == "True" or pattern.startswith("|")
