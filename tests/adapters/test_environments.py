"""Environments are ready whole or not at all, whoever else builds, whatever is killed, full or silent."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version as installed_version
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

import router
from router.adapters.environments import builds
from router.adapters.environments.builds import BuildPolicy
from router.adapters.environments.environments import (
    BuiltEnvironments,
    VersionsEnvironment,
    package_directory,
)
from router.core.environment_events import (
    EnvironmentBuilt,
    EnvironmentRebuilt,
    EnvironmentsOverBound,
    EnvironmentsRemoved,
)
from router.core.ids import VersionId
from router.core.version_environment import FOLDER
from router.environments import store
from router.errors import EnvironmentFailed, EnvironmentRefused, IndexUnreachable
from router.processes.child import Child
from router.processes.forkserver import ForkServerSupervisor
from tests.adapters.conftest import Facts
from tests.support.environments import RecordingLoaders, add_version, make_environment, policy_for
from tests.support.package_index import PackageIndex, package_index
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")

V1, V2 = VersionId("m", 1), VersionId("m", 2)
TINY = "tiny==1.0"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as index:
        index.add("tiny", "1.0")
        index.add("tiny", "2.0")
        yield index


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class CountingLauncher:
    """The template's children, and who of them was started."""

    def __init__(self, template: ForkServerSupervisor) -> None:
        self._template = template
        self.launched: list[Child] = []

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        child = await self._template.launch(role, modules, version)
        self.launched.append(child)
        return child

    async def close(self) -> None:
        """The template is not ours."""


Open = Callable[..., BuiltEnvironments]


@pytest.fixture
def launcher(template: ForkServerSupervisor) -> CountingLauncher:
    return CountingLauncher(template)


@pytest.fixture
def loaders() -> RecordingLoaders:
    """What all gateways load with."""
    return RecordingLoaders()


@pytest_asyncio.fixture(loop_scope="package")
async def gateway(
    launcher: CountingLauncher, cache: Path, index: PackageIndex, facts: Facts, loaders: RecordingLoaders
) -> AsyncIterator[Open]:
    """Opens the environments of one more gateway on the same cache; all are closed."""
    async with AsyncExitStack() as stack:

        def opened(policy: BuildPolicy | None = None, recorder: Facts = facts) -> BuiltEnvironments:
            given = policy or policy_for(index.uri)
            environments = BuiltEnvironments(launcher, cache, given, recorder, loaders)
            stack.push_async_callback(environments.close)
            return environments

        yield opened


def root(cache: Path) -> Path:
    return cache / FOLDER


def parts(cache: Path) -> list[str]:
    return [path.name for path in root(cache).glob(".*") if path.name != store.UV]


def module(interpreter: str) -> Path:
    """The only module of `tiny` in the environment of this Python."""
    [found] = Path(interpreter).parent.parent.glob("lib/*/site-packages/tiny/__init__.py")
    return found


def runs(process: psutil.Process) -> bool:
    """Who has ended is left to this process, which waits for nobody here."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_a_version_s_environment_is_built_once_and_found_ever_after(
    gateway: Open, cache: Path, index: PackageIndex, facts: Facts, launcher: CountingLauncher
) -> None:
    files = add_version(cache, "m", 1, TINY)

    prepared = await gateway().prepare(V1, files)

    assert module(prepared.about.interpreter).read_text() == '__version__ = "1.0"\n'
    assert prepared.about.differences == ("tiny 1.0, the gateway has none",)
    [built] = facts.of(EnvironmentBuilt)
    assert isinstance(built, EnvironmentBuilt)
    assert (built.version, built.about) == (V1, prepared.about)
    assert 0 < built.resolved_seconds < built.about.build_seconds
    assert parts(cache) == []
    with index.gone():
        assert (await gateway().prepare(V1, files)).about == prepared.about
    assert len(facts.of(EnvironmentBuilt)) == 1
    await until(lambda: all(child.exited.done() for child in launcher.launched))


async def test_one_that_takes_long_to_look_at_is_found_in_the_time_for_building(
    gateway: Open, cache: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache came from another disk, all files are read once; each try would be cut off."""
    files = add_version(cache, "m", 1, TINY)
    built = await gateway().prepare(V1, files)
    monkeypatch.setattr(builds, "FIND_SECONDS", 1e-9)

    assert (await gateway().prepare(V1, files)).about == built.about
    assert len(facts.of(EnvironmentBuilt)) == 1


async def test_versions_with_equal_pins_share_one_environment(
    gateway: Open, cache: Path, facts: Facts
) -> None:
    environments = gateway()
    one, two = [
        await environments.prepare(VersionId("m", number), add_version(cache, "m", number, TINY))
        for number in (1, 2)
    ]

    assert one.about.key == two.about.key
    assert len(facts.of(EnvironmentBuilt)) == 1
    assert store.versions_of(store.place_of(root(cache), one.about.key)) == ["m v2", "m v1"]


async def test_who_asks_for_a_version_under_way_gets_the_same_environment(
    gateway: Open, cache: Path, facts: Facts, launcher: CountingLauncher
) -> None:
    environments, files = gateway(), add_version(cache, "m", 1, TINY)

    both = await asyncio.gather(*(environments.prepare(V1, files) for _ in range(2)))

    assert both[0].about == both[1].about
    assert len(launcher.launched) == 2  # one that looked, and one that built


async def test_two_gateways_that_build_the_same_at_once_both_get_it_and_leave_nothing(
    gateway: Open, cache: Path
) -> None:
    files = add_version(cache, "m", 1, TINY)

    both = await asyncio.gather(*(gateway().prepare(V1, files) for _ in range(2)))

    assert both[0].about.pins == both[1].about.pins
    assert len(store.places_in(root(cache))) == 1
    assert parts(cache) == []


async def test_what_has_to_be_built_waits_for_its_turn_and_what_is_there_needs_none(
    gateway: Open, cache: Path, launcher: CountingLauncher
) -> None:
    environments, files = gateway(), add_version(cache, "m", 1, TINY)
    may_build, turns = asyncio.Event(), []

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        turns.append(len(launcher.launched))
        await may_build.wait()
        yield

    building = asyncio.ensure_future(environments.prepare(V1, files, turn=turn))
    await until(lambda: turns, 60.0)
    assert len(launcher.launched) == 1  # it looked
    may_build.set()
    await building

    await environments.prepare(V1, files, turn=turn)
    assert turns == [1]


async def test_a_changed_library_is_named_and_the_environment_built_anew(
    gateway: Open, cache: Path, facts: Facts, loaders: RecordingLoaders
) -> None:
    environments = gateway()
    files = [add_version(cache, "m", number, TINY) for number in (1, 2)]
    about = (await environments.prepare(V1, files[0])).about
    changed = module(about.interpreter)
    changed.chmod(0o600)
    changed.write_text("__version__ = 'changed'\n")

    again = await environments.prepare(V2, files[1])

    assert again.about.key == about.key
    assert module(again.about.interpreter).read_text() == '__version__ = "1.0"\n'
    [rebuilt] = facts.of(EnvironmentRebuilt)
    assert isinstance(rebuilt, EnvironmentRebuilt)
    name = changed.relative_to(Path(about.interpreter).parent.parent)
    assert rebuilt.why == (
        f"{name} of the environment {about.short} changed since it was built; it was used by m v1"
    )
    assert rebuilt.version == V2
    assert loaders.built_anew == [about.key], "its template may have imported what was changed"
    # Workers of the first version still run there: nobody may take it away from them.
    environments.retain({V1})
    await until(lambda: store.is_in_use(store.place_of(root(cache), about.key)))
    environments.retain(())
    await until(lambda: not store.is_in_use(store.place_of(root(cache), about.key)))


async def test_a_torn_record_is_built_anew_and_a_build_that_was_killed_is_no_environment(
    gateway: Open, cache: Path, facts: Facts
) -> None:
    files = add_version(cache, "m", 1, TINY)
    place = store.place_of(root(cache), (await gateway().prepare(V1, files)).about.key)
    (place / store.ABOUT).chmod(0o600)
    (place / store.ABOUT).write_text('{"format": 1, "ab')

    await gateway().prepare(V1, files)

    [rebuilt] = facts.of(EnvironmentRebuilt)
    assert isinstance(rebuilt, EnvironmentRebuilt)
    assert "is torn; it was used by m v1" in rebuilt.why
    assert isinstance(store.find(root(cache), _key(place)), store.Kept)


def _key(place: Path) -> str:
    kept = store.read(place)
    assert kept is not None
    return kept.about.key


async def test_an_index_that_hangs_ends_the_build_at_its_deadline_with_all_it_started(
    gateway: Open, cache: Path, index: PackageIndex, launcher: CountingLauncher, slack: float
) -> None:
    index.hanging = True
    environments = gateway(policy_for(index.uri, timeout_seconds=1.5 * slack))
    building = asyncio.ensure_future(environments.prepare(V1, add_version(cache, "m", 1, TINY)))
    await until(lambda: index.connections, 30 * slack)
    started = psutil.Process(launcher.launched[-1].pid).children(recursive=True)

    with pytest.raises(EnvironmentFailed, match="m v1: its environment was not ready within"):
        await building

    assert started
    await until(lambda: not any(map(runs, started)))
    assert parts(cache) == []


@pytest.mark.parametrize("whom", ["the process", "its installer"])
async def test_a_build_that_is_killed_fails_and_leaves_nothing(
    gateway: Open, cache: Path, index: PackageIndex, launcher: CountingLauncher, slack: float, whom: str
) -> None:
    files = add_version(cache, "m", 1, TINY)
    index.hanging = True
    building = asyncio.ensure_future(gateway().prepare(V1, files))
    await until(lambda: index.connections, 30 * slack)
    child = launcher.launched[-1]
    [installer] = psutil.Process(child.pid).children(recursive=True)

    os.kill(child.pid if whom == "the process" else installer.pid, signal.SIGKILL)

    with pytest.raises(EnvironmentFailed, match=r"ended (with|by) signal 9"):
        await building
    await until(lambda: not runs(installer))
    assert parts(cache) == []
    index.close()
    index.hanging = False
    index.open()
    await gateway().prepare(V1, files)


@pytest.mark.parametrize("how", ["at its deadline", "by a kill"])
async def test_what_a_build_that_is_ended_had_left_is_swept_and_its_former_environment_serves(
    gateway: Open,
    cache: Path,
    index: PackageIndex,
    facts: Facts,
    launcher: CountingLauncher,
    slack: float,
    how: str,
) -> None:
    """Where the former one can not be used, it says why, and is swept all the same."""
    files = add_version(cache, "m", 1, TINY)
    uv = store.open_root(cache) / store.UV
    own = {**policy_for(index.uri).rules, "own": ["mlflow==3.17.2"]}
    seconds = 2.0 * slack if how == "at its deadline" else 120.0
    environments = gateway(policy_for(index.uri, rules=own, max_bytes=1, timeout_seconds=seconds))
    index.hanging = True

    async def ended_build() -> VersionsEnvironment:
        for half in (uv / "tmp" / "half", uv / "cache" / "half"):
            half.mkdir(parents=True, exist_ok=True)
            (half / "unpacked").write_text("x")
        asked = index.connections
        building = asyncio.ensure_future(environments.prepare(V1, files))
        await until(lambda: index.connections > asked, 30 * slack)
        child = launcher.launched[-1]
        if how == "by a kill":
            os.kill(child.pid, signal.SIGKILL)
        return await building

    with pytest.raises(EnvironmentFailed, match=r"m v1: (its environment was not ready|the build of)"):
        await ended_build()
    assert (list(uv.glob("tmp/*")), (uv / "cache").exists()) == ([], False)
    assert isinstance(facts.of(EnvironmentsRemoved)[-1], EnvironmentsRemoved)

    former = make_environment(cache, "a" * 64, {"bin/python": "#!/bin/sh\n"}, "mlflow==3.17.0\n")
    store.note_use(former.place, Path(files))
    prepared = await ended_build()

    assert prepared.about.key == former.about.key
    assert "that gateway 0.1.0 built for it, until another one can be built" in prepared.note
    assert ("was not ready within" in prepared.note) is (how == "at its deadline")
    assert (list(uv.glob("tmp/*")), (uv / "cache").exists()) == ([], False)
    assert parts(cache) == []


async def test_a_gateway_that_closes_ends_its_builds_and_leaves_nothing(
    gateway: Open, cache: Path, index: PackageIndex, launcher: CountingLauncher, slack: float
) -> None:
    index.hanging = True
    environments = gateway()
    building = asyncio.ensure_future(environments.prepare(V1, add_version(cache, "m", 1, TINY)))
    await until(lambda: index.connections, 30 * slack)

    await environments.close()

    with pytest.raises(EnvironmentFailed, match="the gateway is closing"):
        await building
    assert all(child.exited.done() for child in launcher.launched)
    assert parts(cache) == []


async def test_what_can_not_be_made_is_refused_and_what_can_not_be_reached_is_another_thing(
    gateway: Open, cache: Path, index: PackageIndex
) -> None:
    environments = gateway()
    with pytest.raises(EnvironmentRefused, match=r"requirements\.txt line 1"):
        await environments.prepare(V1, add_version(cache, "m", 1, "--index-url http://127.0.0.1:9/"))
    with pytest.raises(EnvironmentRefused, match="absent"):
        await environments.prepare(V2, add_version(cache, "m", 2, "absent"))
    files = add_version(cache, "m", 3, TINY)
    with index.gone(), pytest.raises(IndexUnreachable, match="m v3: the package index gave no answer"):
        await environments.prepare(VersionId("m", 3), files)
    assert store.places_in(root(cache)) == []
    assert parts(cache) == []


async def test_an_environment_in_use_is_not_removed_and_others_are_when_the_bound_is_reached(
    gateway: Open, cache: Path, index: PackageIndex, facts: Facts
) -> None:
    files = [add_version(cache, "m", 1, TINY), add_version(cache, "m", 2, "tiny==2.0")]
    environments = gateway(policy_for(index.uri, max_bytes=1))
    first = store.place_of(root(cache), (await environments.prepare(V1, files[0])).about.key)
    await environments.prepare(V2, files[1])
    assert first in store.places_in(root(cache))
    assert len(facts.of(EnvironmentsOverBound)) == 1

    environments.retain({V2})
    await until(lambda: not store.is_in_use(first))
    index.add("other", "1.0")
    await environments.prepare(VersionId("m", 3), add_version(cache, "m", 3, "other"))

    assert first not in store.places_in(root(cache))
    assert len(store.places_in(root(cache))) == 2
    removed = facts.of(EnvironmentsRemoved)[-1]
    assert isinstance(removed, EnvironmentsRemoved)
    assert first.name[:12] in removed.names
    assert removed.size > 0


async def test_has_says_whether_the_environment_a_version_was_prepared_in_last_is_here_whole(
    gateway: Open, cache: Path, launcher: CountingLauncher
) -> None:
    files = add_version(cache, "m", 1, TINY)
    environments = gateway()
    assert not await environments.has(V1)
    about = (await environments.prepare(V1, files)).about
    looked = len(launcher.launched)
    assert await environments.has(V1)
    assert len(launcher.launched) == looked  # it is held: nobody has to look

    another = gateway()
    assert await another.has(V1)
    place = store.place_of(root(cache), about.key)
    environments.retain(())
    assert store.is_in_use(place)
    another.retain(())
    await until(lambda: not store.is_in_use(place))
    module(about.interpreter).unlink()
    assert not await another.has(V1)


@pytest.mark.parametrize(
    ("gateway_release", "pins", "has"),
    [
        (router.__version__, "tiny==1.0\n", True),
        ("0.0.1", "tiny==1.0\n", False),
        (router.__version__, f"mlflow=={installed_version('mlflow')}\n", True),
        (router.__version__, "mlflow==1.0\n", False),
    ],
    ids=["ours", "a former gateway's", "our MLflow's", "a former MLflow's"],
)
async def test_an_environment_of_a_former_release_is_none_that_a_rollback_would_be_ready_with(
    gateway: Open, cache: Path, gateway_release: str, pins: str, has: bool
) -> None:
    """After an upgrade a load of that version builds another one, for minutes."""
    files = add_version(cache, "m", 1, TINY)
    kept = make_environment(cache, "a" * 64, pins=pins, gateway=gateway_release)
    store.note_use(kept.place, Path(files))

    assert await gateway().has(V1) is has


async def test_an_older_gateway_s_environment_serves_while_the_index_is_out_of_reach(
    gateway: Open, cache: Path, index: PackageIndex
) -> None:
    files = add_version(cache, "m", 1, TINY)
    own = {**policy_for(index.uri).rules, "own": ["mlflow==3.17.2"]}
    environments = gateway(policy_for(index.uri, rules=own))
    with index.gone(), pytest.raises(IndexUnreachable):
        await environments.prepare(V1, files)
    # What a former release of the gateway built for it, whose MLflow was of another minor version.
    runs_nothing = {"bin/python": "#!/bin/sh\n"}
    former = make_environment(cache, "a" * 64, runs_nothing, "mlflow==3.16.0\n")
    store.note_use(former.place, Path(files))
    with index.gone(), pytest.raises(IndexUnreachable):
        await environments.prepare(V1, files)
    # And of the same one.
    former = make_environment(cache, "b" * 64, runs_nothing, "mlflow==3.17.0\n")
    store.note_use(former.place, Path(files))
    with index.gone():
        prepared = await environments.prepare(V1, files)

    assert prepared.about.key == "b" * 64
    assert "the package index gave no answer" in prepared.note
    assert "that gateway 0.1.0 built" in prepared.note
    assert (await environments.has(V1)) is True
    # One whose Python does not start any more serves nobody.
    broken = make_environment(cache, "c" * 64, {"bin/python": "#!/nowhere\n"}, "mlflow==3.17.0\n")
    store.note_use(broken.place, Path(files))
    with index.gone(), pytest.raises(IndexUnreachable):
        await environments.prepare(V1, files)


@pytest.mark.parametrize("unwritable", ["work", "cache"])
async def test_an_older_gateway_s_environment_serves_while_the_disk_takes_no_other(
    gateway: Open, cache: Path, index: PackageIndex, unwritable: str
) -> None:
    """After an upgrade the former environment is better than nothing, whatever keeps the next from coming."""
    files = add_version(cache, "m", 1, TINY)
    (store.open_root(cache) / store.UV / unwritable).write_text("in the way of a directory")
    rules = {**policy_for(index.uri).rules, "own": ["mlflow==3.17.2"]}
    environments = gateway(policy_for(index.uri, rules=rules))
    with pytest.raises(EnvironmentFailed):
        await environments.prepare(V1, files)
    former = make_environment(cache, "a" * 64, {"bin/python": "#!/bin/sh\n"}, "mlflow==3.17.0\n")
    store.note_use(former.place, Path(files))

    prepared = await environments.prepare(V1, files)

    assert prepared.about.key == former.about.key
    assert "File exists: the environment is used that gateway 0.1.0 built for it" in prepared.note
    # What the version asks for is another matter: no later try would end otherwise.
    (Path(files) / "requirements.txt").write_text("--index-url http://127.0.0.1:9/\n")
    with pytest.raises(EnvironmentRefused):
        await environments.prepare(V1, files)


async def test_an_environment_that_takes_long_to_look_through_is_found_all_the_same(
    gateway: Open, cache: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was copied to a slow disk, whose files are all read: each try would begin anew."""
    files = add_version(cache, "m", 1, TINY)
    about = (await gateway().prepare(V1, files)).about
    monkeypatch.setattr(builds, "FIND_SECONDS", 0.0)

    assert (await gateway().prepare(V1, files)).about == about


async def test_the_directory_for_sys_path_holds_nothing_but_this_package(gateway: Open, cache: Path) -> None:
    """Also where somebody's else installation was, or nothing any more."""
    environments, files = gateway(), add_version(cache, "m", 1, TINY)
    directory = package_directory(cache)
    await environments.prepare(V1, files)
    assert [path.name for path in directory.iterdir()] == ["router"]
    assert directory.stat().st_mode & 0o777 == 0o700

    (directory / "router").unlink()
    (directory / "router").symlink_to("/nowhere")
    await environments.prepare(V1, files)

    assert (directory / "router").resolve() == Path(router.__file__).parent
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]
