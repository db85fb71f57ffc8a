"""Downloads end in a whole directory or in nothing, whoever else downloads and whatever is cut."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from router.adapters.registry.agent import RegistryAddress
from router.adapters.registry.downloads import Downloads, FetchPolicy
from router.core.ids import VersionId
from router.errors import ChildLost, FetchFailed
from router.processes.child import Child
from router.processes.forkserver import ForkServerSupervisor
from router.serving.load_gate import LoadGate, LoadLimits
from tests.adapters.conftest import Facts, OpenRegistry
from tests.serving.conftest import FakeVersion
from tests.support.fakes import FakeWorld
from tests.support.faulty_servers import (
    Answer,
    Proxy,
    black_hole,
    cut_half_way,
    cut_silently,
    hang_half_way,
    list_a_way_out,
    proxy_to,
)
from tests.support.registry_backends import RealRegistry
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")

PATIENCE_SECONDS = 60.0
SEED = VersionId("seed", 1)


class CountingLauncher:
    """The template, and what it was asked to launch."""

    def __init__(self, template: ForkServerSupervisor) -> None:
        self._template = template
        self.launched: list[Child] = []
        self.most_at_once = 0

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        child = await self._template.launch(role, modules, version)
        self.launched.append(child)
        alive = [each for each in self.launched if not each.exited.done()]
        self.most_at_once = max(self.most_at_once, len(alive))
        return child

    async def close(self) -> None:
        """The template is not ours."""


@pytest.fixture
def launcher(template: ForkServerSupervisor) -> CountingLauncher:
    return CountingLauncher(template)


@pytest.fixture
def proxy(server: RealRegistry) -> Iterator[Proxy]:
    with proxy_to(server.uri) as proxy:
        yield proxy


@asynccontextmanager
async def opened(launcher: CountingLauncher, uri: str, cache: Path) -> AsyncIterator[Downloads]:
    """Downloads alone, without the agent that is asked for a cached copy first."""
    downloads = Downloads(launcher, RegistryAddress(uri, uri, {}), cache, FetchPolicy(), Facts())
    yield downloads
    await downloads.close()


def files_of(directory: str | Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): path.stat().st_size
        for path in Path(directory).rglob("*")
        if path.is_file()
    }


def parts_in(cache: Path) -> list[Path]:
    return list(cache.glob("*/.part-*"))


async def part_in(cache: Path, seconds: float) -> None:
    """Wait until a download has begun to fill its `.part`."""
    await until(lambda: any(any(part.glob("files/*")) for part in parts_in(cache)), seconds)


@pytest.mark.parametrize("spoil", [cut_half_way, cut_silently])
async def test_a_download_that_is_cut_fails_and_leaves_nothing(
    proxy: Proxy, open_registry: OpenRegistry, tmp_path: Path, spoil: Callable[[Answer], None]
) -> None:
    """Also when nothing on the wire says that half is missing: sizes are compared with the listing."""
    registry = open_registry(proxy.uri)
    proxy.spoil = spoil

    with pytest.raises(FetchFailed):
        await registry.fetch(SEED, deadline_seconds=PATIENCE_SECONDS)

    assert list((tmp_path / "cache" / "seed").iterdir()) == []
    proxy.mend()
    assert "MLmodel" in files_of(await registry.fetch(SEED, deadline_seconds=PATIENCE_SECONDS))


async def test_a_listing_that_leads_out_of_the_directory_is_refused(
    proxy: Proxy, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    proxy.spoil = list_a_way_out

    with pytest.raises(FetchFailed):
        await open_registry(proxy.uri).fetch(SEED, deadline_seconds=PATIENCE_SECONDS)

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
async def test_a_download_is_ended_at_its_deadline_and_leaves_nothing(
    proxy: Proxy, launcher: CountingLauncher, tmp_path: Path, slack: float
) -> None:
    proxy.spoil = hang_half_way
    async with opened(launcher, proxy.uri, tmp_path) as downloads:
        started = time.monotonic()
        fetch = asyncio.ensure_future(downloads.fetch(SEED, deadline_seconds=8.0 * slack))
        await part_in(tmp_path, 18.0 * slack)

        with pytest.raises(FetchFailed, match="seed v1 was not downloaded within"):
            await fetch

    assert time.monotonic() - started < 20 * slack
    assert parts_in(tmp_path) == []
    assert [child.exited.done() for child in launcher.launched] == [True]


async def test_a_registry_that_never_answers_ends_a_download_at_its_deadline(
    launcher: CountingLauncher, tmp_path: Path, slack: float
) -> None:
    with black_hole() as uri:
        async with opened(launcher, uri, tmp_path) as downloads:
            started = time.monotonic()
            with pytest.raises(FetchFailed, match="within"):
                await downloads.fetch(SEED, deadline_seconds=0.5)

    assert time.monotonic() - started < 5 * slack
    assert [child.exited.done() for child in launcher.launched] == [True]


async def test_cancelling_a_fetch_ends_its_process_and_leaves_nothing(
    proxy: Proxy, launcher: CountingLauncher, tmp_path: Path, slack: float
) -> None:
    proxy.spoil = hang_half_way
    async with opened(launcher, proxy.uri, tmp_path) as downloads:
        fetch = asyncio.ensure_future(downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS))
        await part_in(tmp_path, 30 * slack)

        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch

        assert parts_in(tmp_path) == []
        assert [child.exited.done() for child in launcher.launched] == [True]


async def test_a_download_whose_process_is_killed_fails_and_leaves_nothing(
    proxy: Proxy, launcher: CountingLauncher, tmp_path: Path, slack: float
) -> None:
    proxy.spoil = hang_half_way
    async with opened(launcher, proxy.uri, tmp_path) as downloads:
        fetch = asyncio.ensure_future(downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS))
        await part_in(tmp_path, 30 * slack)

        os.kill(launcher.launched[0].pid, signal.SIGKILL)

        with pytest.raises(FetchFailed, match="SIGKILL"):
            await fetch
    assert parts_in(tmp_path) == []


async def test_closing_ends_downloads_and_fails_those_who_wait(
    proxy: Proxy, launcher: CountingLauncher, tmp_path: Path, slack: float
) -> None:
    proxy.spoil = hang_half_way
    async with opened(launcher, proxy.uri, tmp_path) as downloads:
        fetch = asyncio.ensure_future(downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS))
        await part_in(tmp_path, 30 * slack)

    with pytest.raises(FetchFailed, match="closing"):
        await fetch
    assert parts_in(tmp_path) == []
    assert [child.exited.done() for child in launcher.launched] == [True]


async def test_a_version_asked_for_twice_at_once_is_downloaded_once(
    sqlite: RealRegistry, launcher: CountingLauncher, tmp_path: Path
) -> None:
    async with opened(launcher, sqlite.uri, tmp_path) as downloads:
        fetches = (downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS) for _ in range(5))
        directories = await asyncio.gather(*fetches)

    assert len(set(directories)) == 1
    assert len(launcher.launched) == 1


async def test_a_fresh_download_is_not_shared_with_one_that_is_content_with_a_copy(
    sqlite: RealRegistry, launcher: CountingLauncher, tmp_path: Path
) -> None:
    async with opened(launcher, sqlite.uri, tmp_path) as registry:
        directories = await asyncio.gather(
            *(registry.fetch(SEED, deadline_seconds=PATIENCE_SECONDS, fresh=fresh) for fresh in (False, True))
        )

    assert len(set(directories)) == 1
    assert "MLmodel" in files_of(directories[0])
    assert len(launcher.launched) == 2


async def test_one_of_two_who_wait_may_give_up(
    sqlite: RealRegistry, launcher: CountingLauncher, tmp_path: Path
) -> None:
    async with opened(launcher, sqlite.uri, tmp_path) as downloads:
        first, second = (
            asyncio.ensure_future(downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS)) for _ in range(2)
        )
        await asyncio.sleep(0)

        first.cancel()

        assert "MLmodel" in files_of(await second)
        assert first.cancelled()
    assert len(launcher.launched) == 1


async def test_who_asks_after_everyone_gave_up_gets_a_download_of_its_own(
    sqlite: RealRegistry, launcher: CountingLauncher, tmp_path: Path
) -> None:
    async with opened(launcher, sqlite.uri, tmp_path) as downloads:
        first = asyncio.ensure_future(downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)

        assert "MLmodel" in files_of(await downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS))


async def test_two_downloads_run_at_a_time(
    sqlite: RealRegistry, launcher: CountingLauncher, tmp_path: Path
) -> None:
    model = sqlite.new_model(5)
    gate = LoadGate(FakeWorld(), LoadLimits(PATIENCE_SECONDS))
    turn = partial(gate.download_turn, FakeVersion())
    async with opened(launcher, sqlite.uri, tmp_path) as downloads:
        versions = [VersionId(model, number) for number in range(1, 6)]
        fetches = (
            downloads.fetch(version, deadline_seconds=PATIENCE_SECONDS, turn=turn) for version in versions
        )
        directories = await asyncio.gather(*fetches)

    assert len(set(directories)) == 5
    assert launcher.most_at_once == 2


async def test_two_gateways_that_share_a_cache_may_race(
    server: RealRegistry, template: ForkServerSupervisor, tmp_path: Path
) -> None:
    """Each download is a process; the loser throws its copy away and uses the winner's."""
    gateways = [CountingLauncher(template) for _ in range(2)]
    async with (
        opened(gateways[0], server.uri, tmp_path) as one,
        opened(gateways[1], server.uri, tmp_path) as other,
    ):
        first, second = await asyncio.gather(
            *(downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS) for downloads in (one, other))
        )

    assert first == second
    assert "MLmodel" in files_of(first)
    assert list((tmp_path / "seed").iterdir()) == [Path(first).parent]
    assert [len(gateway.launched) for gateway in gateways] == [1, 1]


async def test_a_download_that_cannot_be_started_is_a_failed_fetch(
    sqlite: RealRegistry, tmp_path: Path
) -> None:
    class NoLauncher(CountingLauncher):
        async def launch(
            self, role: str, modules: Sequence[str] = (), version: VersionId | None = None
        ) -> Child:
            raise ChildLost("no process slot")

    async with opened(NoLauncher(None), sqlite.uri, tmp_path) as downloads:
        with pytest.raises(FetchFailed, match="no process slot"):
            await downloads.fetch(SEED, deadline_seconds=PATIENCE_SECONDS)


async def test_a_source_that_is_no_version_is_refused_before_it_is_copied(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    model = sqlite.new_model(0)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root")
    sqlite.client.create_model_version(model, source=str(tmp_path / "etc"))

    with pytest.raises(FetchFailed, match="no MLmodel file"):
        await open_registry(sqlite.uri).fetch(VersionId(model, 1), deadline_seconds=PATIENCE_SECONDS)

    assert not list((tmp_path / "cache").rglob("passwd"))


async def test_a_version_with_a_link_out_of_its_directory_is_refused(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    model, stored = sqlite.new_model(0), tmp_path / "stored"
    stored.mkdir()
    (stored / "MLmodel").write_text("flavors: {}")
    (stored / "shadow").symlink_to("/etc/passwd")
    sqlite.client.create_model_version(model, source=str(stored))

    with pytest.raises(FetchFailed):
        await open_registry(sqlite.uri).fetch(VersionId(model, 1), deadline_seconds=PATIENCE_SECONDS)

    assert not list((tmp_path / "cache").rglob("MLmodel"))


async def test_a_run_as_the_source_finds_what_the_run_logged(
    sqlite: RealRegistry, open_registry: OpenRegistry
) -> None:
    """`create_model_version(source="runs:/…/model")`, the old idiom; MLflow 3 logs into a LoggedModel."""
    model, client = sqlite.new_model(0), sqlite.client
    run = client.get_model_version("seed", "2").run_id
    client.create_model_version(model, source=f"runs:/{run}/model", run_id=run)
    registry = open_registry(sqlite.uri)

    directory = await registry.fetch(VersionId(model, 1), deadline_seconds=PATIENCE_SECONDS)

    same = await registry.fetch(VersionId("seed", 2), deadline_seconds=PATIENCE_SECONDS)
    assert files_of(directory) == files_of(same)


async def test_the_mistyped_tracking_store_of_a_download_is_not_created(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    model, client = sqlite.new_model(0), sqlite.client
    run = client.get_model_version("seed", "2").run_id
    client.create_model_version(model, source=f"runs:/{run}/model", run_id=run)
    typo = tmp_path / "typo.db"
    registry = open_registry(sqlite.uri, tracking_uri=f"sqlite:///{typo}")

    with pytest.raises(FetchFailed, match="there is no file"):
        await registry.fetch(VersionId(model, 1), deadline_seconds=PATIENCE_SECONDS)

    assert not typo.exists()
