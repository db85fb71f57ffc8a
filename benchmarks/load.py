"""Loads a server from a process of its own: wrk, or a client in Python where wrk is missing."""

import json
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO

from benchmarks.figures import Round
from benchmarks.processes import ROOT, Ended, environment, output, start
from benchmarks.servers import HOST, Server

_LATE_SECONDS = 30.0
"""How much longer than asked a client may take before it is ended."""
_WRK_SCRIPT = Path(__file__).with_name("wrk.lua")

Sample = tuple[float, float, int]
"""When it was due (monotonic clock), milliseconds from then to the answer, status as in `open_client`."""


@dataclass(frozen=True, slots=True)
class Loader:
    """The client, and the processor it runs on."""

    client: str
    """wrk or python."""
    core: int | None

    def closed_loop(
        self, port: int, requests: Path, connections: int, seconds: int, host: str = HOST
    ) -> Round:
        """Every connection sends its next request when the last one is answered."""
        if self.client == "wrk":
            command = [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"),
                *("-s", str(_WRK_SCRIPT), f"http://{host}:{port}/invocations", "--", str(requests)),
            ]
        else:
            client = [sys.executable, "-m", "benchmarks.closed_client"]
            command = [*client, host, str(port), str(requests), str(connections), str(seconds)]
        reported = output(command, self.core, seconds + _LATE_SECONDS)
        return Round(**json.loads(reported.splitlines()[-1]))

    def good_round(self, server: Server, requests: Path, connections: int, seconds: int) -> Round:
        """As `closed_loop`. Raises Ended also when `server` ended, or did not answer every request well."""
        one = self.closed_loop(server.port, requests, connections, seconds)
        server.tree.alive()
        if one.failed or not one.requests:
            raise Ended(f"{one.failed} of {one.requests} requests failed: {server.tree.tail()}")
        return one

    @contextmanager
    def open_loop(self, port: int, requests: Path, rate: int, limit_seconds: float) -> Iterator["OnSchedule"]:
        """`rate` requests per second until the block ends; then `samples` holds them all."""
        command = [
            *(sys.executable, "-m", "benchmarks.open_client"),
            *(HOST, str(port), str(requests), str(rate), str(limit_seconds)),
        ]
        with _started(command, self.core) as client:
            assert client.stdout is not None
            load = OnSchedule(client.stdout)
            yield load
            try:
                reported, _ = client.communicate(
                    timeout=_LATE_SECONDS
                )  # closes its standard input, which ends it
            except TimeoutExpired:
                raise Ended(f"the client on schedule took {_LATE_SECONDS:g} s to end") from None
            load.samples = [
                (due_at, milliseconds, status) for due_at, milliseconds, status in json.loads(reported)
            ]


@dataclass(slots=True)
class OnSchedule:
    """What an open loop sent, in the order in which it was due."""

    reported: IO[bytes]
    """What the client prints, once it has ended."""
    samples: list[Sample] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        """Until the client reached its own limit, which takes `seconds` from its start. Raises Ended."""
        if not select.select([self.reported], [], [], seconds + _LATE_SECONDS)[0]:
            raise Ended(f"the client on schedule took {_LATE_SECONDS:g} s more than {seconds:g} s")


class AliasMover:
    """Moves aliases in the registry from a process that has MLflow imported already."""

    def __init__(self, directory: Path, core: int | None) -> None:
        self._directory, self._core = directory, core

    @contextmanager
    def ready(self) -> Iterator["AliasMover"]:
        """Usable while the block runs."""
        command = [sys.executable, "-m", "benchmarks.registry", "move", str(self._directory)]
        with _started(command, self._core) as it:
            assert it.stdin is not None
            assert it.stdout is not None
            self._say, self._hear = it.stdin, it.stdout
            self._expect(b"ready\n", it.stdout)
            yield self

    def move(self, workload: str, alias: str, version: int) -> None:
        """Returns when the registry names the version."""
        self._say.write(f"{workload} {alias} {version}\n".encode())
        self._say.flush()
        self._expect(b"moved\n", self._hear)

    def _expect(self, line: bytes, out: IO[bytes]) -> None:
        if out.readline() != line:
            raise Ended("the registry's client ended")


def build_registry(directory: Path, models: dict[str, tuple[str, int]]) -> None:
    """Make the registry in a process that ends: kind and number of versions by name. Raises Ended."""
    entries = [f"{name}:{kind}:{versions}" for name, (kind, versions) in models.items()]
    output([sys.executable, "-m", "benchmarks.registry", "build", str(directory), *entries], None, 600.0)


@contextmanager
def _started(command: list[str], core: int | None) -> Iterator["Popen[bytes]"]:
    with start(command, core, cwd=ROOT, env=environment(), stdin=PIPE, stdout=PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
