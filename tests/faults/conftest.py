"""What the damage tests break: a registry in a file, an `mlflow server`, and gateways beside them."""

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import (  # noqa: F401 - fixtures, by name
    POLL_SECONDS,
    built_registry,
    registry,
    shared_registry,
    start,
    start_shared,
)
from tests.support.empty_database import beside_empty_database
from tests.support.faulty_servers import Proxy, proxy_to
from tests.support.gateway import GatewayProcess, gateways
from tests.support.registry_backends import Server, seed
from tests.support.waiting import wait_until


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[Server]:
    """A real `mlflow server` with `seed`, which a test leaves running."""
    server = Server(beside_empty_database("server", tmp_path_factory))
    try:
        server.start(120 * slack)
        seed(server.uri, server.directory)
        yield server
    finally:
        server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """In front of the server: what lies between a gateway and its registry."""
    with proxy_to(server.uri) as proxy:
        yield proxy


@pytest.fixture
def start_at(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways on the registry `uri`, and ends them."""
    with gateways(tmp_path, "", POLL_SECONDS) as starts:
        yield starts


def _parents() -> Iterator[tuple[Path, str]]:
    """Where a cgroup with a memory limit may be made, and the name of the limit there."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"
    yield Path("/sys/fs/cgroup"), "memory.max"


@pytest.fixture
def limited() -> Iterator[Callable[[int], Sequence[str]]]:
    """A command's beginning that runs the interpreter below a limit of so many MiB."""
    made: list[Path] = []

    def command(mib: int) -> Sequence[str]:
        for parent, limit in _parents():
            cgroup = parent / f"canary-router-{uuid.uuid4().hex[:8]}"
            try:
                cgroup.mkdir()
                made.append(cgroup)
                (cgroup / limit).write_text(str(mib << 20))
            except OSError:
                continue
            procs = cgroup / "cgroup.procs"
            return "sh", "-c", f'echo $$ > {procs} && exec "$@"', "sh", sys.executable
        pytest.skip("no cgroup with a memory limit can be made here")

    yield command
    for cgroup in made:
        with suppress(OSError):
            wait_until(lambda c=cgroup: not (c / "cgroup.procs").read_text(), 30)  # type: ignore[misc]
            cgroup.rmdir()
