"""What a worker leaves behind when it is ended: shared memory, and temporary files."""

import asyncio
import mmap
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from router.processes.forkserver import ForkServerSupervisor
from router.processes.shared_memory import SharedMemory
from router.processes.worker_client import Worker, WorkerLoader
from router.processes.working_directories import LONGEST_PATH, WorkingDirectories
from tests.processes.conftest import ask
from tests.support.saved_versions import command_query, predictions, spec_of
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="only Linux has files of shared memory"),
]

MAKE = """
from multiprocessing.shared_memory import SharedMemory
kept = SharedMemory(create=True, size=20 << 20)
kept.buf[:1] = b"x"
import sys
sys.modules["kept"] = kept
answer = kept.name
"""
MAKE_IN_A_CHILD = """
import os, time
from multiprocessing.shared_memory import SharedMemory
reader, writer = os.pipe()
if os.fork() == 0:
    kept = SharedMemory(create=True, size=1 << 20)
    os.write(writer, kept.name.encode())
    time.sleep(1000)
answer = os.read(reader, 100).decode()
"""
MAP = """
import mmap, os, sys
file = os.open({path!r}, os.O_RDWR)
sys.modules["kept"] = mmap.mmap(file, 0)
answer = "mapped"
"""


def shared(name: str) -> Path:
    return Path("/dev/shm", name)


@pytest.fixture
def ours() -> Iterator[Path]:
    """A file of shared memory that is not a version's."""
    path = shared(f"canary-router-test-{secrets.token_hex(4)}")
    path.write_bytes(b"x" * mmap.PAGESIZE)
    yield path
    path.unlink(missing_ok=True)


@pytest_asyncio.fixture(loop_scope="package")
async def memory() -> SharedMemory:
    return SharedMemory()


@pytest_asyncio.fixture(loop_scope="package")
async def worker(
    template: ForkServerSupervisor, versions: Path, slack: float, memory: SharedMemory
) -> AsyncIterator[Worker]:
    loader = WorkerLoader(template, None, memory)
    worker = await loader.load(spec_of(versions, "commands"), deadline_seconds=30 * slack)
    yield worker
    await worker.close()


async def run(worker: Worker, program: str) -> Any:
    [answer] = await ask(worker, command_query(f"run:{program}"))
    return predictions(answer.body)[0]


async def removed(memory: SharedMemory, path: Path, slack: float) -> None:
    """Tick as the gateway does, until `path` is gone."""
    async with asyncio.timeout(5 * slack):
        while path.exists():
            await memory.tick()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("program", [MAKE, MAKE_IN_A_CHILD], ids=["its own", "of what it started"])
async def test_shared_memory_of_a_worker_that_is_ended_for_a_hang_goes_with_it(
    worker: Worker, memory: SharedMemory, slack: float, tmp_path: Path, program: str
) -> None:
    """20 MB each: three would fill the /dev/shm that a container has. No look came before the end."""
    path = shared(await run(worker, program))
    worker.submit([command_query(f"hang:{tmp_path}/hanging")], lambda _places, _answers: None)
    await until((tmp_path / "hanging").exists, 5 * slack)
    assert path.exists()

    worker.kill()

    await asyncio.shield(worker.exited)
    await removed(memory, path, slack)


async def test_shared_memory_of_a_worker_that_crashed_goes_too(
    worker: Worker, memory: SharedMemory, slack: float
) -> None:
    path = shared(await run(worker, MAKE))
    await memory.tick()  # as the gateway does each second

    worker.submit([command_query("segfault:")], lambda _places, _answers: None)

    await asyncio.shield(worker.exited)
    await removed(memory, path, slack)


async def test_shared_memory_that_a_version_never_removes_goes_when_it_is_unloaded(
    worker: Worker, memory: SharedMemory
) -> None:
    path = shared(await run(worker, MAKE))

    await worker.close()
    await memory.close()

    assert not path.exists()


async def test_shared_memory_that_somebody_else_maps_stays(worker: Worker, memory: SharedMemory) -> None:
    path = shared(await run(worker, MAKE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        worker.kill()
        await asyncio.shield(worker.exited)
        await memory.close()

        assert path.exists()
    path.unlink()


async def test_shared_memory_that_was_there_before_the_worker_stays(
    ours: Path, worker: Worker, memory: SharedMemory
) -> None:
    await run(worker, MAP.format(path=str(ours)))

    worker.kill()
    await asyncio.shield(worker.exited)
    await memory.close()

    assert ours.exists()


async def test_shared_memory_that_the_worker_does_not_map_stays(
    worker: Worker, memory: SharedMemory, ours: Path
) -> None:
    """Another process of this user made it after the worker was started."""
    worker.kill()
    await asyncio.shield(worker.exited)
    await memory.close()

    assert ours.exists()


TEMPORARY = """
import os, tempfile
answer = [tempfile.gettempdir(), os.environ["TMPDIR"], os.environ["JOBLIB_TEMP_FOLDER"], os.getcwd()]
tempfile.mkdtemp()
"""
MANAGER = """
import multiprocessing
with multiprocessing.get_context("spawn").Manager() as manager:
    answer = list(manager.list([1, 2]))
"""


@pytest.mark.parametrize("end", ["kill", "close"])
async def test_a_worker_has_a_directory_for_temporary_files_and_it_goes_with_the_worker(
    template: ForkServerSupervisor, versions: Path, slack: float, tmp_path: Path, end: str
) -> None:
    directories = WorkingDirectories(tmp_path / "cache")
    loader = WorkerLoader(template, directories)
    worker = await loader.load(spec_of(versions, "commands"), deadline_seconds=30 * slack)

    *temporary, working = map(Path, await run(worker, TEMPORARY))

    assert len(set(temporary)) == 1
    assert temporary[0].is_relative_to(tmp_path / "cache")
    assert [*temporary[0].iterdir()]
    assert temporary[0].stat().st_mode & 0o777 == 0o700
    assert not working.is_relative_to(temporary[0])
    assert [*working.iterdir()] == []
    worker.kill() if end == "kill" else await worker.close()
    await until(lambda: not temporary[0].exists() and not working.exists(), 5 * slack)
    await directories.close()


async def test_where_the_cache_has_a_long_path_temporary_files_have_a_short_one(
    template: ForkServerSupervisor, versions: Path, slack: float, tmp_path: Path
) -> None:
    """A socket's path has 107 bytes: below a deep cache, multiprocessing's managers would not start."""
    shorter = Path("/tmp", f"cr-{secrets.token_hex(3)}")
    directories = WorkingDirectories(tmp_path / ("deep" * 20), shorter)
    loader = WorkerLoader(template, directories)
    worker = await loader.load(spec_of(versions, "commands"), deadline_seconds=30 * slack)

    [temporary, *_] = await run(worker, TEMPORARY)
    listed = await run(worker, MANAGER)

    assert len(temporary) <= LONGEST_PATH
    assert listed == [1, 2]
    await worker.close()
    await directories.close()
    assert [*shorter.iterdir()] == []
    shorter.rmdir()
