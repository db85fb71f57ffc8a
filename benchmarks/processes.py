"""Started processes with all their descendants: what they cost, and how they end. All by their own ids."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).parents[1]
"""Where `python -m benchmarks` finds itself."""
OUTPUT = ROOT / ".bench"
"""What runs leave behind. Not in version control."""
GRACE_SECONDS = 20.0
_NAMES = {"uvicorn": "server", "mlflow": "launcher"}
"""What processes call themselves, where that says little."""


class Ended(RuntimeError):
    """A process ended, or did not do its part in time; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a tree of processes holds at one instant."""

    pss_mib: float
    """Proportional set size: pages that several processes share count once in all."""
    threads: int
    descriptors: int
    processes: int


def environment() -> dict[str, str]:
    """Ours, without what would point a server elsewhere; commands of this interpreter's environment first."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "CANARY_ROUTER_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


def start(command: Sequence[str], core: int | None = None, **how: Any) -> "subprocess.Popen[bytes]":
    """`command` on processor `core`, or on any."""
    pinned = ["taskset", "-c", str(core), *command] if core is not None else list(command)
    # Commands are put together here, from our own names and paths; no shell reads them.
    return subprocess.Popen(pinned, stdin=how.pop("stdin", subprocess.DEVNULL), **how)  # noqa: S603


def output(command: Sequence[str], core: int | None, seconds: float) -> str:
    """What `command`, run in the repository, prints. Raises Ended when it fails or is late."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(command, core, cwd=ROOT, env=environment(), **pipes) as process:
        try:
            out, complaint = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Ended(f"{command[0]} took longer than {seconds:g} s") from None
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode:
        raise Ended(f"{command[0]} ended with code {process.returncode}: {complaint.decode()[-2000:]}")
    return str(out.decode())


def cores() -> tuple[int, int] | None:
    """A processor for the servers and one for the load; None when this machine cannot give each its own."""
    if shutil.which("taskset") is None or not hasattr(os, "sched_getaffinity"):
        return None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else None


class Tree:
    """A server and every process it starts, until `stop`."""

    def __init__(
        self, command: Sequence[str], log: Path, settings: Mapping[str, str], core: int | None, role: str
    ) -> None:
        """`role`: what the first process is, in figures by process."""
        self.log, self._first_role = log, role
        output: IO[bytes]
        with log.open("wb") as output:
            # A session of its own: a Ctrl-C reaches the benchmark, which ends what it started.
            self._started = start(
                command,
                core,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment(), **settings},
                start_new_session=True,
            )
        self._root = psutil.Process(self._started.pid)

    def alive(self) -> None:
        """Raise Ended unless the server still runs."""
        if (code := self._started.poll()) is not None:
            raise Ended(f"it ended with code {code}: {self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n  ".join(["", *self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]])

    def level(self) -> Level:
        """What it holds now."""
        parts = [part for process in self._members() if (part := _level(process)) is not None]
        return Level(
            sum(part.pss_mib for part in parts),
            sum(part.threads for part in parts),
            sum(part.descriptors for part in parts),
            len(parts),
        )

    def processor_seconds(self) -> dict[str, float]:
        """Time its living processes have used so far, by what they are."""
        used: defaultdict[str, float] = defaultdict(float)
        for process in self._members():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used[self._role(process)] += times.user + times.system
        return dict(used)

    def stop(self) -> None:
        """Ask the server to end, then whatever is left; kill what stays."""
        if self._started.poll() is None:
            members = self._members()
            self._started.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._started.wait(GRACE_SECONDS)
        else:
            members = []
        for ask in (psutil.Process.terminate, psutil.Process.kill):
            _, left = psutil.wait_procs(members, timeout=2.0)
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    ask(process)
        self._started.wait()

    def _members(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _role(self, process: psutil.Process) -> str:
        name = process.name()
        if name.startswith("router-"):
            return name.removeprefix("router-")
        return _NAMES.get(name, self._first_role if process == self._root else name)


def _level(process: psutil.Process) -> Level | None:
    try:
        with process.oneshot():
            memory = process.memory_full_info().pss / (1 << 20)
            return Level(memory, process.num_threads(), process.num_fds(), 1)
    except psutil.NoSuchProcess:  # a download that ended meanwhile
        return None
