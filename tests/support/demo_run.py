"""One whole demo, played once in a run as a newcomer plays it; its directory is then a seeded one."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from router.demo.gateway_process import clean_environment
from router.demo.workspace import OWN_ENVIRONMENTS, TWO_MODELS, Scenario, Workspace
from tests.support.built_once import made_once
from tests.support.slowness import slack

LIMIT_SECONDS = 120.0
BUILDING_SECONDS = 480.0
"""More, where it builds Python environments."""
READY = "gateway ready"
STORY_SECONDS = 20
FOLDER = "our demo/.demo"
"""With a space in it, on purpose; the end is what the documents show."""


@dataclass(frozen=True, slots=True)
class PlayedDemo:
    """A demo that took every step of its story in about `STORY_SECONDS`, and ended."""

    place: Workspace
    exit_code: int
    printed: str


def played_demo(tmp_path_factory: pytest.TempPathFactory) -> PlayedDemo:
    """Played in a new directory, so that its versions are trained, too."""
    return _played("demo", TWO_MODELS, tmp_path_factory)


def played_demo_of_environments(tmp_path_factory: pytest.TempPathFactory) -> PlayedDemo:
    """The same of `--environments`, whose versions' Python environments are built for it."""
    return _played("demo-of-environments", OWN_ENVIRONMENTS, tmp_path_factory)


def _played(name: str, scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> PlayedDemo:
    directory = made_once(name, lambda place: _play(place, scenario), tmp_path_factory)
    result = json.loads((directory / "result.json").read_text())
    return PlayedDemo(Workspace(directory / FOLDER, scenario), result["exit_code"], result["printed"])


def _play(directory: Path, scenario: Scenario) -> None:
    running = running_demo(directory / FOLDER, until=READY, seconds=STORY_SECONDS, scenario=scenario)
    with running as (demo, before):
        printed = "".join(f"{line}\n" for line in before) + output_of(demo)
    result = {"exit_code": demo.returncode, "printed": printed}
    (directory / "result.json").write_text(json.dumps(result))


@contextmanager
def running_demo(
    directory: Path, *, until: str, seconds: int | None = None, scenario: Scenario = TWO_MODELS
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`canary-router demo`, run up to the line that has `until` in it, and the lines so far.

    What it had started by then is gone when it has ended, or the test fails.
    """
    environment = clean_environment() | ({"DEMO_SECONDS": str(seconds)} if seconds else {})
    command = [sys.executable, "-m", "router", "demo", "--directory", str(directory)]
    command += ["--environments"] if scenario.own_environments else []
    limit = (LIMIT_SECONDS + (BUILDING_SECONDS if scenario.own_environments else 0.0)) * slack()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        watchdog = threading.Timer(limit, demo.kill)
        watchdog.start()
        try:
            lines = lines_until(demo, until)
            family = psutil.Process(demo.pid).children(recursive=True)
            yield demo, lines
        finally:
            watchdog.cancel()
            if demo.poll() is None:
                demo.send_signal(signal.SIGTERM)
                demo.wait(LIMIT_SECONDS * slack())
    assert until in lines[-1]
    assert psutil.wait_procs(family, timeout=5.0 * slack())[1] == []


def lines_until(demo: subprocess.Popen[str], text: str) -> list[str]:
    """What it prints up to the line that has `text` in it."""
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError(f"{text!r} was never printed:\n" + "\n".join(lines))


def output_of(demo: subprocess.Popen[str]) -> str:
    """What it prints until it ends."""
    assert demo.stdout is not None
    text = demo.stdout.read()
    demo.wait()
    return text
