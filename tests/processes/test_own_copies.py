"""A version that writes among its files: in the shared copy it may not, and gets a copy of its own."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from router.agent.cache import part_of, publish
from router.agent.manifest import FILES
from router.core.cache_events import OwnCopyNeeded
from router.errors import LoadFailed
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.messages import LoadSpec
from tests.processes.conftest import Notes, ask
from tests.support.saved_versions import predictions, spec_of, text_query
from tests.support.waiting import until

INDEX = "artifacts/index.txt"

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def loader(template: ForkServerSupervisor, notes: Notes) -> AsyncIterator[WorkerLoader]:
    loader = WorkerLoader(template, recorder=notes)
    yield loader
    await loader.close()


def published(versions: Path, cache: Path, name: str) -> LoadSpec:
    """The version saved as `name`, as the cache holds it."""
    with part_of(cache, "t") as part:
        (part / FILES).rmdir()
        shutil.copytree(versions / name, part / FILES)
        publish(part, cache / f"1-{name}")
    return replace(spec_of(versions, name), directory=str(cache / f"1-{name}" / FILES))


def own_copies(cache: Path) -> list[Path]:
    return list(cache.glob("*/own-*"))


def contents(directory: str) -> dict[str, bytes]:
    files = (path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


async def gone(worker: Worker, cache: Path, slack: float) -> None:
    await worker.close()
    await until(lambda: not own_copies(cache), 10 * slack)


@pytest.mark.parametrize("name", ["writes_on_load", "writes_on_example"])
async def test_a_version_that_may_not_write_is_loaded_with_a_copy_of_its_own(
    loader: WorkerLoader, versions: Path, tmp_path: Path, notes: Notes, slack: float, name: str
) -> None:
    spec = published(versions, tmp_path, name)
    before = contents(spec.directory)
    worker = await loader.load(spec, deadline_seconds=60 * slack)

    [own] = own_copies(tmp_path)
    assert contents(spec.directory) == before
    assert contents(str(own))[INDEX].startswith(before[INDEX] + b"# written")
    [needed] = [event for event in notes.events if isinstance(event, OwnCopyNeeded)]
    assert needed.version == spec.version
    assert "PermissionError" in needed.error
    [answer] = await ask(worker, text_query("a"))
    assert predictions(answer.body) == [0.5]

    second = await loader.load(spec, deadline_seconds=60 * slack)
    assert len(own_copies(tmp_path)) == 2
    assert sum(isinstance(event, OwnCopyNeeded) for event in notes.events) == 1, "it is known by then"
    await gone(worker, Path("/nowhere"), slack)
    await gone(second, tmp_path, slack)


async def test_a_writable_version_has_a_copy_of_its_own_at_once_which_goes_with_its_worker(
    loader: WorkerLoader, versions: Path, tmp_path: Path, notes: Notes, slack: float
) -> None:
    spec = replace(published(versions, tmp_path, "writes_on_load"), writable=True)
    worker = await loader.load(spec, deadline_seconds=60 * slack)

    [own] = own_copies(tmp_path)
    assert not (own / INDEX).samefile(Path(spec.directory, INDEX)), "no hard link"
    assert notes.events == []
    worker.kill()
    await asyncio.shield(worker.exited)
    await until(lambda: not own.exists(), 10 * slack)


async def test_a_version_that_fails_by_itself_is_loaded_once_and_leaves_no_copy(
    loader: WorkerLoader, versions: Path, tmp_path: Path, notes: Notes, slack: float
) -> None:
    spec = published(versions, tmp_path, "raises_on_load")
    with pytest.raises(LoadFailed, match="no such lexicon"):
        await loader.load(spec, deadline_seconds=60 * slack)

    assert own_copies(tmp_path) == []
    assert notes.events == []


async def test_a_load_that_changed_the_copy_all_the_same_says_what_and_what_follows(
    loader: WorkerLoader, versions: Path, tmp_path: Path, slack: float
) -> None:
    """As root may, or by another file of the same name."""
    spec = published(versions, tmp_path, "replaces_on_load")
    worker = await loader.load(spec, deadline_seconds=60 * slack)

    assert "its load changed artifacts/index.txt in the copy that all workers load" in worker.info.note
    assert "`writable: true`" in worker.info.note
    await worker.close()
