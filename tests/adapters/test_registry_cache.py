"""What served last, recorded and recalled through a real agent and real downloads; and the cache's bound."""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from router.adapters.registry.downloads import FetchPolicy
from router.control.alias_watch import AliasWatch
from router.core.cache_events import CacheEvicted, CacheOverBound
from router.core.events import Polled
from router.core.ids import CANARY, PRODUCTION, ROLLBACK, VersionId
from router.errors import CacheRefused, FetchFailed
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from tests.adapters.conftest import Facts, OpenRegistry
from tests.conftest import Figure
from tests.serving.conftest import settings
from tests.support.faulty_servers import black_hole
from tests.support.registry_backends import RealRegistry

pytestmark = pytest.mark.asyncio(loop_scope="package")

BOTH = {PRODUCTION: "production", CANARY: "canary"}
V1, V2 = VersionId("seed", 1), VersionId("seed", 2)
PATIENCE_SECONDS = 60.0
TINY = FetchPolicy(max_bytes=1)


@pytest.fixture
def copied(sqlite: RealRegistry, tmp_path: Path) -> Path:
    """A database that the test may put out of reach."""
    return Path(shutil.copy(sqlite.database, tmp_path / "mlflow.db"))


async def serve(open_registry: OpenRegistry, uri: str, *versions: VersionId) -> None:
    """Fetch, as a gateway that ends afterwards; production is the first version."""
    registry = open_registry(uri)
    for version in versions:
        await registry.fetch(version, deadline_seconds=PATIENCE_SECONDS)
    await registry.remember("seed", dict(zip(("production", "canary"), versions, strict=False)), ())
    await registry.close()


async def test_without_the_registry_what_served_last_is_found_and_fetched(
    copied: Path, open_registry: OpenRegistry
) -> None:
    uri = f"sqlite:///{copied}"
    await serve(open_registry, uri, V1, V2)
    copied.unlink()
    registry = open_registry(uri)

    assert await registry.last_known_good("seed", BOTH) == {PRODUCTION: V1, CANARY: V2}
    for version in (V1, V2):
        files = await registry.fetch(version, deadline_seconds=PATIENCE_SECONDS)
        assert (Path(files) / "MLmodel").is_file()


async def test_another_name_of_an_alias_finds_no_wrong_version(
    copied: Path, open_registry: OpenRegistry
) -> None:
    await serve(open_registry, f"sqlite:///{copied}", V1, V2)
    names = {PRODUCTION: "champion", CANARY: "production"}

    assert await open_registry(f"sqlite:///{copied}").last_known_good("seed", names) == {CANARY: V1}


async def test_the_record_of_another_registry_in_the_same_cache_is_not_taken(
    copied: Path, tmp_path: Path, open_registry: OpenRegistry
) -> None:
    await serve(open_registry, f"sqlite:///{copied}", V1)

    assert await open_registry(f"sqlite:///{tmp_path}/other.db").last_known_good("seed", BOTH) == {}


async def test_a_torn_record_is_refused(copied: Path, tmp_path: Path, open_registry: OpenRegistry) -> None:
    await serve(open_registry, f"sqlite:///{copied}", V1)
    [record] = (tmp_path / "cache" / "seed").glob("last-good-*.json")
    os.truncate(record, 30)

    with pytest.raises(CacheRefused, match="is torn"):
        await open_registry(f"sqlite:///{copied}").last_known_good("seed", BOTH)


async def test_a_copy_that_was_refused_is_replaced_when_the_registry_answers(
    copied: Path, tmp_path: Path, open_registry: OpenRegistry
) -> None:
    """Its sizes are right, so nothing else would show that it is another."""
    uri = f"sqlite:///{copied}"
    await serve(open_registry, uri, V1)
    [pickled] = (tmp_path / "cache" / "seed").glob("1-*/files/python_model.pkl")
    good = pickled.read_bytes()
    pickled.chmod(0o600)
    pickled.write_bytes(bytes(len(good)))
    registry = open_registry(uri)
    await registry.last_known_good("seed", BOTH)
    with pytest.raises(FetchFailed, match=r"python_model\.pkl is not as it was published"):
        await registry.fetch(V1, deadline_seconds=PATIENCE_SECONDS)

    await registry.poll("seed", BOTH)
    files = await registry.fetch(V1, deadline_seconds=PATIENCE_SECONDS)

    assert (Path(files) / "python_model.pkl").read_bytes() == good


async def test_two_gateways_record_at_once_and_one_of_them_wins_whole(
    copied: Path, tmp_path: Path, open_registry: OpenRegistry
) -> None:
    gateways = [open_registry(f"sqlite:///{copied}") for _ in range(2)]
    for registry, version in zip(gateways, (V1, V2), strict=True):
        await registry.fetch(version, deadline_seconds=PATIENCE_SECONDS)

    for _ in range(10):
        await asyncio.gather(
            gateways[0].remember("seed", {"production": V1}, ()),
            gateways[1].remember("seed", {"production": V2}, ()),
        )
        assert set(await gateways[0].last_known_good("seed", BOTH)) == {PRODUCTION}

    [record] = (tmp_path / "cache" / "seed").glob("*last-good-*")
    assert record.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(record.read_bytes())["aliases"]) == 1


async def test_a_download_over_the_bound_removes_what_nobody_uses_and_reports_when_it_is_not_enough(
    copied: Path, tmp_path: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    uri = f"sqlite:///{copied}"
    other, registry = open_registry(uri), open_registry(uri, policy=TINY)
    await other.fetch(V1, deadline_seconds=PATIENCE_SECONDS)
    await registry.fetch(V2, deadline_seconds=PATIENCE_SECONDS)
    assert facts.of(CacheEvicted) == [], "the other gateway uses it"
    assert len(facts.of(CacheOverBound)) == 1
    other.retain(())

    await registry.fetch(V2, deadline_seconds=PATIENCE_SECONDS, fresh=True)

    assert [fact.versions for fact in facts.of(CacheEvicted)] == [("seed v1",)]
    assert len(facts.of(CacheOverBound)) == 1, "it is said once"
    assert [path.name[:2] for path in (tmp_path / "cache" / "seed").glob("[0-9]*")] == ["2-"]


async def test_a_copy_that_is_held_for_a_rollback_stays_and_one_that_is_not_here_is_not_fetched(
    copied: Path, tmp_path: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    """Both while this gateway runs, and by the record for the next one."""
    uri, places = f"sqlite:///{copied}", tmp_path / "cache" / "seed"
    await serve(open_registry, uri, V1)
    registry = open_registry(uri, policy=TINY)
    assert await registry.hold_copy(V1)
    assert not await registry.hold_copy(V2)
    assert [path.name[:2] for path in places.glob("[0-9]*")] == ["1-"]
    await registry.fetch(V2, deadline_seconds=PATIENCE_SECONDS)
    await registry.remember("seed", {"production": V2, "previous": V1}, ())
    await registry.close()
    assert facts.of(CacheEvicted) == []

    names = {PRODUCTION: "production", ROLLBACK: "previous"}
    other = open_registry(uri, policy=TINY)
    assert await other.last_known_good("seed", names) == {PRODUCTION: V2, ROLLBACK: V1}
    await other.poll("seed", names)
    await other.fetch(V2, deadline_seconds=PATIENCE_SECONDS, fresh=True)
    assert facts.of(CacheEvicted) == []
    shutil.rmtree(next(places.glob("1-*")))
    assert not await other.hold_copy(V1)


async def test_the_polls_of_many_models_on_a_silent_registry_take_no_longer_than_one(
    open_registry: OpenRegistry, facts: Facts, slack: float, figure: Figure
) -> None:
    with black_hole() as uri:
        registry = open_registry(uri, poll_deadline_seconds=2.0)
        models = ModelSet(VersionDependencies(registry, None, None, facts, LoadLimits(5.0)))
        models.apply({f"model-{n}": settings() for n in range(10)})
        watch = AliasWatch(registry, models, facts, time.time)
        await registry.last_known_good("model-0", BOTH)  # the agent's own start is no poll
        began = time.monotonic()
        await watch.tick()
        seconds = time.monotonic() - began
        await models.close(0.0)

    figure(f"a tick of ten models on a silent registry, 2 s patience with one: {seconds:.1f} s")
    assert seconds < 6 * slack
    assert len(watch.errors) == len(facts.of(Polled)) == 10
