"""The registry through the agent and downloads: one suite for SQLite and for an MLflow server."""

import asyncio
import os
import pickle
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest

from router.core.gate_record import GATE_TAG, OVERRIDE_TAG
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.errors import FetchFailed, ModelUnknown
from router.processes.child import Child
from router.processes.forkserver import ForkServerSupervisor
from tests.adapters.conftest import OpenRegistry
from tests.support.registry_backends import RealRegistry

pytestmark = pytest.mark.asyncio(loop_scope="package")

BOTH = {PRODUCTION: "production", CANARY: "canary"}
PATIENCE_SECONDS = 60.0
PICKLE = "python_model.pkl"


def answers_of(directory: str) -> list[int]:
    """What the version in `directory` predicts for one row."""
    return list(mlflow.pyfunc.load_model(directory).predict(pd.DataFrame({"text": ["fine"]})))


async def test_a_poll_answers_every_alias_with_its_version(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = real.new_model(2, production=1, canary=2)

    wish = await open_registry(real.uri).poll(model, BOTH)

    assert wish == {PRODUCTION: VersionId(model, 1), CANARY: VersionId(model, 2)}


async def test_an_alias_that_moved_is_seen_by_the_next_poll(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = real.new_model(2, production=1)
    registry = open_registry(real.uri)
    before = await registry.poll(model, BOTH)

    real.client.set_registered_model_alias(model, "production", "2")

    assert before == {PRODUCTION: VersionId(model, 1)}
    assert await registry.poll(model, BOTH) == {PRODUCTION: VersionId(model, 2)}


async def test_an_alias_that_the_registry_lacks_is_absent_from_the_answer(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = real.new_model(1)

    assert await open_registry(real.uri).poll(model, BOTH) == {}


async def test_an_alias_goes_with_the_version_it_pointed_at(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    """MLflow drops the aliases of a version that is deleted."""
    model = real.new_model(2, production=1, canary=2)
    real.client.delete_model_version(model, "2")

    assert await open_registry(real.uri).poll(model, BOTH) == {PRODUCTION: VersionId(model, 1)}


async def test_roles_may_have_other_names_in_the_registry(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = real.new_model(2, champion=2, challenger=1)
    names = {PRODUCTION: "champion", Alias("shadow"): "challenger"}

    wish = await open_registry(real.uri).poll(model, names)

    assert wish == {PRODUCTION: VersionId(model, 2), Alias("shadow"): VersionId(model, 1)}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # stages are deprecated, and still in use
async def test_a_stage_means_the_highest_version_in_it(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = real.new_model(4)
    for number, stage in ((1, "Production"), (3, "Production"), (2, "Staging")):
        real.client.transition_model_version_stage(model, str(number), stage)
    names = {PRODUCTION: "stage:production", CANARY: "stage:Staging", Alias("old"): "stage:Archived"}

    wish = await open_registry(real.uri).poll(model, names)

    assert wish == {PRODUCTION: VersionId(model, 3), CANARY: VersionId(model, 2)}


async def test_a_model_that_is_not_registered_is_unknown(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    with pytest.raises(ModelUnknown, match="nobody"):
        await open_registry(real.uri).poll("nobody", BOTH)


async def test_polls_of_many_models_at_once_are_all_answered(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    models = [real.new_model(1, production=1) for _ in range(5)]
    registry = open_registry(real.uri)

    wishes = await asyncio.gather(*(registry.poll(model, BOTH) for model in models))

    assert wishes == [{PRODUCTION: VersionId(model, 1)} for model in models]


async def test_what_the_gate_wrote_is_read_with_what_no_other_version_shares(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    """A copy has the tags of its original, and is told from it."""
    model, other = real.new_model(2), real.new_model(1)
    real.client.set_model_version_tag(model, "2", GATE_TAG, "a record")
    real.client.set_model_version_tag(model, "2", OVERRIDE_TAG, "another")
    copy = real.client.copy_model_version(f"models:/{model}/2", other)
    registry = open_registry(real.uri)

    first, second, copied = [
        await registry.gate_evidence(VersionId(name, number), ["tags.approved_by", "description"])
        for name, number in ((model, 1), (model, 2), (other, int(copy.version)))
    ]

    assert (first.gate_tag, first.override_tag) == (None, None)
    assert (second.gate_tag, second.override_tag) == ("a record", "another")
    assert copied.gate_tag == "a record"
    assert len({one.of for one in (first, second, copied)}) == 3
    assert len({one.of.fingerprint for one in (first, second, copied)}) == 3
    assert second.missing == ("tags.approved_by", "description")
    # Whoever asks the server and whoever reads its database see one and the same version.
    beside = await open_registry(f"sqlite:///{real.database}").gate_evidence(VersionId(model, 2), [])
    assert beside.of == second.of
    real.client.set_model_version_tag(model, "2", "approved_by", "anna")
    real.client.update_model_version(model, "2", "better")
    again = await registry.gate_evidence(VersionId(model, 2), ["tags.approved_by", "description"])
    assert (again.missing, again.of) == ((), second.of)
    with pytest.raises(ModelUnknown):
        await registry.gate_evidence(VersionId(model, 99), [])


async def test_a_question_of_the_gate_that_hangs_keeps_no_poll_waiting(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    """Nor a rollback, which the poll is the first step of."""
    model = real.new_model(1, production=1)
    registry, version = open_registry(real.uri), VersionId(model, 1)
    await registry.gate_evidence(version, [])
    halted = registry._gate_agent.pid
    assert halted is not None
    os.kill(halted, signal.SIGSTOP)
    question = asyncio.create_task(registry.gate_evidence(version, []))

    assert await registry.poll(model, BOTH) == {PRODUCTION: version}
    assert not question.done()
    os.kill(halted, signal.SIGKILL)
    assert (await question).of.version == version


@pytest.mark.parametrize("number", [1, 2])
async def test_a_fetched_version_is_whole_and_loads(
    real: RealRegistry, open_registry: OpenRegistry, number: int
) -> None:
    """`seed` was logged as users do it: its source is a LoggedModel."""
    directory = await open_registry(real.uri).fetch(
        VersionId("seed", number), deadline_seconds=PATIENCE_SECONDS
    )

    assert Path(directory).is_absolute()
    assert answers_of(directory) == [number]


@pytest.mark.parametrize("name", ["a b;c{d}", "größe 量", "100% 100%25", "a+b=3D", "#a?b&c", ".a", "é" * 100])
async def test_a_model_of_every_name_that_mlflow_accepts_loads(
    real: RealRegistry, open_registry: OpenRegistry, name: str
) -> None:
    """MLflow decodes the path it loads from, as if it were a URI."""
    model = real.new_model(2, beginning=name, production=2)
    registry = open_registry(real.uri)

    wish = await registry.poll(model, BOTH)
    directory = await registry.fetch(wish[PRODUCTION], deadline_seconds=PATIENCE_SECONDS)

    assert answers_of(directory) == [2]


async def test_a_version_copied_from_another_model_is_fetched(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    version = VersionId(real.new_model(2), 2)

    directory = await open_registry(real.uri).fetch(version, deadline_seconds=PATIENCE_SECONDS)

    assert answers_of(directory) == [2]


async def test_fetching_and_loading_leaves_the_artifact_store_as_it_was(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    """`load_model("models:/…")` would have written registered_model_meta into a local store."""
    before = real.stored()

    directory = await open_registry(real.uri).fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    answers_of(directory)

    assert real.stored() == before


async def test_the_cache_is_ours_alone(
    real: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    await open_registry(real.uri).fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)

    for directory in (tmp_path / "cache", tmp_path / "cache" / "seed"):
        assert directory.stat().st_mode & 0o777 == 0o700


async def test_a_version_that_lies_in_the_cache_is_not_downloaded_again(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    registry = open_registry(real.uri)
    first = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    written = Path(first).stat().st_ino

    again = await open_registry(real.uri).fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)

    assert again == first
    assert Path(again).stat().st_ino == written


async def test_a_version_in_the_cache_is_found_without_a_process_of_its_own(
    real: RealRegistry,
    open_registry: OpenRegistry,
    template: ForkServerSupervisor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rollback is to a version that was here before, and must not wait for a process to start."""
    registry = open_registry(real.uri)
    first = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    launched: list[str] = []
    launch = template.launch

    async def watched(role: str, **more: Any) -> Child:
        launched.append(role)
        return await launch(role, **more)

    monkeypatch.setattr(template, "launch", watched)
    assert await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS) == first
    assert launched == []


async def test_a_version_that_lost_its_files_in_the_cache_is_fetched_anew(
    real: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    registry = open_registry(real.uri)
    first = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    Path(first, "MLmodel").unlink()

    again = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)

    assert again == first
    assert answers_of(again) == [1]
    assert [path.name for path in (tmp_path / "cache" / "seed").glob("[!.]*")] == [Path(again).parent.name]


async def test_a_copy_that_was_cut_is_fetched_anew(real: RealRegistry, open_registry: OpenRegistry) -> None:
    registry = open_registry(real.uri)
    first = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    size = os.path.getsize(Path(first, PICKLE))
    Path(first, PICKLE).chmod(0o600)
    os.truncate(Path(first, PICKLE), size // 2)

    again = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)

    assert again == first
    assert answers_of(again) == [1]


async def test_after_a_torn_artifact_was_put_right_a_fresh_fetch_gives_the_good_copy(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    """Also for a restarted gateway: the torn copy would be found in the cache for ever."""
    registry = open_registry(sqlite.uri)
    seed = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    stored = shutil.copytree(seed, tmp_path / "stored")
    good = (stored / PICKLE).read_bytes()
    (stored / PICKLE).chmod(0o600)
    (stored / PICKLE).write_bytes(b"torn".ljust(len(good)))
    version = VersionId(sqlite.new_model(0), 1)
    sqlite.client.create_model_version(version.model, source=str(stored))
    torn = await registry.fetch(version, deadline_seconds=PATIENCE_SECONDS)
    with pytest.raises(pickle.UnpicklingError):
        answers_of(torn)
    (stored / PICKLE).write_bytes(good)

    fresh = await registry.fetch(version, deadline_seconds=PATIENCE_SECONDS, fresh=True)

    assert answers_of(fresh) == [1]
    assert await open_registry(sqlite.uri).fetch(version, deadline_seconds=PATIENCE_SECONDS) == fresh


async def test_a_fresh_fetch_of_what_lies_there_already_leaves_it_to_its_users(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    registry = open_registry(real.uri)
    first = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    answers_of(first)
    inode = Path(first).stat().st_ino

    again = await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS, fresh=True)

    assert again == first
    assert Path(again).stat().st_ino == inode


async def test_a_cache_that_others_can_write_to_is_refused(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)

    with pytest.raises(FetchFailed, match="others can write to it"):
        await open_registry(sqlite.uri).fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)

    assert list((tmp_path / "cache").iterdir()) == []


async def test_a_version_that_the_registry_does_not_know_is_not_fetched(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    with pytest.raises(FetchFailed, match=r"seed v9: .*not found"):
        await open_registry(real.uri).fetch(VersionId("seed", 9), deadline_seconds=PATIENCE_SECONDS)


async def test_a_model_made_anew_never_gets_the_files_of_its_namesake(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    """Version numbers start at 1 again; the directory's name distinguishes the two."""
    model = real.new_model(1)
    registry = open_registry(real.uri)
    first = await registry.fetch(VersionId(model, 1), deadline_seconds=PATIENCE_SECONDS)
    real.client.delete_registered_model(model)
    real.client.create_registered_model(model)
    real.client.create_model_version(model, source="models:/seed/2")

    second = await registry.fetch(VersionId(model, 1), deadline_seconds=PATIENCE_SECONDS)

    assert second != first
    assert answers_of(second) == [2]


async def test_what_the_registry_says_of_versions_differs_when_it_says_otherwise(
    real: RealRegistry, open_registry: OpenRegistry
) -> None:
    model, registry = real.new_model(1), open_registry(real.uri)
    versions = [VersionId(model, 1), VersionId("seed", 1), VersionId(model, 2)]
    before = await registry.registrations(versions)
    assert before == await registry.registrations(versions)
    real.client.create_model_version(model, source="models:/seed/2")
    set_status(real, model, "PENDING_REGISTRATION")

    after = await registry.registrations(versions)

    assert [before[version] == after[version] for version in versions] == [False, True, False]
    assert after[versions[0]].startswith("PENDING_REGISTRATION ")
    assert (before[versions[2]], after[versions[2]][:5]) == ("absent", "READY")


def set_status(registry: RealRegistry, model: str, status: str) -> None:
    """Of the model's first version, past MLflow, which offers no way to."""
    with closing(sqlite3.connect(registry.database)) as database, database:
        database.execute(
            "UPDATE model_versions SET status = ? WHERE name = ? AND version = 1", (status, model)
        )


async def test_a_read_only_artifact_store_serves(sqlite: RealRegistry, open_registry: OpenRegistry) -> None:
    folders = [path for path in (sqlite.artifacts, *sqlite.artifacts.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        directory = await open_registry(sqlite.uri).fetch(
            VersionId("seed", 2), deadline_seconds=PATIENCE_SECONDS
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)

    assert answers_of(directory) == [2]
    shutil.rmtree(directory)  # and the copy is ours to remove
