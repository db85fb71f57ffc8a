"""What the gateway and its commands say of a canary beside production."""

import subprocess
import sys
from typing import Any

from tests.support.gateway import GatewayProcess


def check(entry: dict[str, Any], name: str) -> dict[str, Any]:
    """One check of an entry of `/v1/compare`."""
    found: dict[str, Any] = next(one for one in entry["checks"] if one["check"] == name)
    return found


def command(gateway: GatewayProcess, *arguments: str, columns: int = 110) -> tuple[int, str]:
    """Exit code and output of a command of ours, on a terminal so wide, without colours."""
    done = subprocess.run(
        [sys.executable, "-m", "router", *arguments, "--url", gateway.admin],
        capture_output=True,
        text=True,
        env={"COLUMNS": str(columns), "PATH": ""},
    )
    assert done.stderr == ""
    return done.returncode, done.stdout
