"""SIGUSR2 from the first moment of a program on: nothing ends by it, and none that came is forgotten."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLLOW = "asked = []; off_signal.follow(lambda: asked.append('asked'))"
CATCH = f"from router import off_signal; off_signal.catch(); {FOLLOW}"


def run(code: str, *, blocked: bool = False) -> str:
    """What `code` prints in an interpreter of its own; `blocked`: a signal came before its first line."""

    def block_and_raise() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        signal.raise_signal(signal.SIGUSR2)

    before = block_and_raise if blocked else None
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=before)
    assert ran.returncode == 0, ran.stderr or ran.returncode
    return ran.stdout.strip()


def test_it_is_caught_before_the_command_line_and_its_libraries_are_imported() -> None:
    """Their imports take most of the time in which nobody could otherwise follow it."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from router import __main__, off_signal\n"
        "def catch(): print(*sys.modules.keys() - before); sys.exit()\n"
        "off_signal.catch = catch\n"
        "__main__.main()"
    )
    imported = set(run(code).split())

    assert {name for name in imported if name.startswith("router")} == {
        "router",
        "router.__main__",
        "router.off_signal",
    }
    others = {name.partition(".")[0] for name in imported} - {"router"}
    assert others <= sys.stdlib_module_names - {"asyncio", "logging", "importlib", "multiprocessing"}


def test_the_console_script_begins_as_the_module_does() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert scripts == {"canary-router": "router.__main__:main"}


def test_a_signal_that_comes_before_anybody_follows_is_followed_then() -> None:
    caught = "import signal; from router import off_signal; off_signal.catch()"
    code = f"{caught}; signal.raise_signal(signal.SIGUSR2); {FOLLOW}; print(*asked)"

    assert run(code) == "asked"


def test_a_signal_that_was_blocked_by_whoever_started_us_is_followed() -> None:
    assert run(f"{CATCH}; print(*asked)", blocked=True) == "asked"


def test_each_further_signal_is_followed_until_that_is_ended() -> None:
    code = (
        "import signal; from router import off_signal; off_signal.catch()\n"
        "asked = []; end = off_signal.follow(lambda: asked.append('asked'))\n"
        "signal.raise_signal(signal.SIGUSR2); signal.raise_signal(signal.SIGUSR2); end()\n"
        "signal.raise_signal(signal.SIGUSR2); print(*asked)"
    )
    assert run(code) == "asked asked"


def test_what_is_started_from_here_has_the_default() -> None:
    started = "import signal; print(signal.getsignal(signal.SIGUSR2).name)"
    code = f"{CATCH}; import subprocess, sys; subprocess.run([sys.executable, '-c', {started!r}], check=True)"

    assert run(code) == "SIG_DFL"
