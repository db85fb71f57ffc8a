"""A version that does not load is downloaded anew once, and then only when something of it changed."""

import shutil
from pathlib import Path

import pytest

from router.adapters.registry.client import RegistryClient
from router.core.cache_events import CopyMended, Downloaded
from router.core.ids import VersionId
from router.errors import FetchFailed
from tests.adapters.conftest import Facts, OpenRegistry
from tests.support.faulty_servers import cut_silently, proxy_to
from tests.support.registry_backends import RealRegistry

pytestmark = pytest.mark.asyncio(loop_scope="package")

PATIENCE_SECONDS = 60.0
SEED = VersionId("seed", 1)


@pytest.fixture
def stored(sqlite: RealRegistry, tmp_path: Path) -> Path:
    """A version in a local store that the test may change."""
    directory = tmp_path / "stored"
    directory.mkdir()
    (directory / "MLmodel").write_text("flavors: {}")
    (directory / "weights").write_bytes(bytes(100_000))
    return directory


@pytest.fixture
def version(sqlite: RealRegistry, stored: Path) -> VersionId:
    version = VersionId(sqlite.new_model(0), 1)
    sqlite.client.create_model_version(version.model, source=str(stored))
    return version


async def fetch(registry: RegistryClient, version: VersionId, *, fresh: bool = True) -> Path:
    return Path(await registry.fetch(version, deadline_seconds=PATIENCE_SECONDS, fresh=fresh))


def sizes(facts: Facts) -> list[int]:
    """Bytes of each download."""
    return [event.size for event in facts.of(Downloaded) if isinstance(event, Downloaded)]


async def test_five_tries_of_a_version_that_does_not_load_are_one_download_more(
    sqlite: RealRegistry, version: VersionId, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(sqlite.uri)
    first = await fetch(registry, version, fresh=False)
    again = [await fetch(registry, version) for _ in range(5)]

    assert set(again) == {first}
    assert sizes(facts) == [100_011] * 2


async def test_a_copy_whose_bytes_changed_meanwhile_is_downloaded_again(
    sqlite: RealRegistry, version: VersionId, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(sqlite.uri)
    files = await fetch(registry, version)
    (files / "weights").chmod(0o600)
    (files / "weights").write_bytes(b"1" * 100_000)

    files = await fetch(registry, version)

    assert (files / "weights").read_bytes() == bytes(100_000)
    assert len(sizes(facts)) == 2


async def test_what_changed_in_its_store_is_downloaded_though_its_size_is_the_same(
    sqlite: RealRegistry, version: VersionId, stored: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(sqlite.uri)
    await fetch(registry, version)
    (stored / "weights").write_bytes(b"1" * 100_000)
    files = [await fetch(registry, version) for _ in range(2)][-1]

    assert (files / "weights").read_bytes() == b"1" * 100_000
    assert len(sizes(facts)) == 2


async def test_a_version_that_was_registered_anew_is_downloaded(
    sqlite: RealRegistry, version: VersionId, stored: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(sqlite.uri)
    before = await fetch(registry, version)
    sqlite.client.delete_registered_model(version.model)
    sqlite.client.create_registered_model(version.model)
    sqlite.client.create_model_version(version.model, source=str(stored))

    assert await fetch(registry, version) != before
    assert len(sizes(facts)) == 2


async def test_a_copy_that_left_the_cache_is_downloaded(
    sqlite: RealRegistry, version: VersionId, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(sqlite.uri)
    shutil.rmtree((await fetch(registry, version)).parent)

    assert (await fetch(registry, version) / "weights").is_file()
    assert len(sizes(facts)) == 2


async def test_a_version_that_was_given_up_is_downloaded_anew_when_it_is_asked_for_later(
    real: RealRegistry, open_registry: OpenRegistry, facts: Facts
) -> None:
    """The way out where a store shows no change, such as one behind a server: move the alias off and back."""
    registry = open_registry(real.uri)
    for _ in range(2):
        await fetch(registry, SEED)
    assert len(sizes(facts)) == 1
    registry.retain(())

    await fetch(registry, SEED)

    assert len(sizes(facts)) == 2


async def test_bytes_of_a_download_that_fails_count_too(
    server: RealRegistry, open_registry: OpenRegistry, facts: Facts
) -> None:
    with proxy_to(server.uri) as proxy:
        proxy.spoil = cut_silently
        with pytest.raises(FetchFailed):
            await fetch(open_registry(proxy.uri), SEED)

    [size] = sizes(facts)
    assert size > 0


async def test_of_a_copy_that_a_version_wrote_to_only_what_changed_is_downloaded_and_named(
    real: RealRegistry, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(real.uri)
    files = await fetch(registry, SEED, fresh=False)
    weights = max((path for path in files.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    others = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    await registry.close()
    weights.chmod(0o600)
    with weights.open("ab") as file:
        file.write(b"x")
    whole = sum(map(len, others.values()))

    again = await fetch(open_registry(real.uri), SEED, fresh=False)

    assert again == files
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == others
    assert sizes(facts) == [whole, len(others[weights])]
    [mended] = facts.of(CopyMended)
    assert isinstance(mended, CopyMended)
    assert (mended.version, mended.files) == (SEED, (str(weights.relative_to(files)),))
    assert not list(files.parent.parent.glob(".old-*"))


async def test_a_copy_is_taken_over_from_nothing_that_its_store_no_longer_lists(
    sqlite: RealRegistry, version: VersionId, stored: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    files = await fetch(open_registry(sqlite.uri), version, fresh=False)
    (files / "weights").unlink()
    (stored / "more").write_text("of a store that was changed under its registration")

    await fetch(open_registry(sqlite.uri), version, fresh=False)

    assert len(sizes(facts)) == 2
    assert sizes(facts)[1] > 100_011
    assert facts.of(CopyMended) == []
