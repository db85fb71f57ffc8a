"""Where and with what a run was made."""

import os
import platform
import shlex
import shutil
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import Loader
from benchmarks.processes import Ended, output

_PACKAGES = (
    *("mlflow-canary-router", "mlflow", "uvicorn", "fastapi", "aiohttp", "uvloop", "orjson"),
    *("numpy", "pandas", "scikit-learn", "torch", "sentence-transformers", "xgboost", "ray"),
)


def describe(loader: Loader, server_core: int | None) -> dict[str, Any]:
    """Machine, versions, command and date, JSON-ready."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "machine": {
            "processor": _processor(),
            "processors": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
            "system": platform.platform(),
        },
        "pinned": {"servers": server_core, "load": loader.core},
        "client": loader.client,
        "load_average": os.getloadavg(),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _commit() -> str:
    """The commit, with a plus sign when files differ from it; empty outside a repository."""
    if shutil.which("git") is None:
        return ""
    try:
        return output(["git", "describe", "--always", "--dirty=+", "--abbrev=12"], None, 10.0).strip()
    except Ended:
        return ""
