"""What the registry does wrong never blocks, never writes, never looks like a wish."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from router.core.events import ChildRestarted, RegistrySchemaNewer
from router.core.ids import PRODUCTION, VersionId
from router.errors import FetchFailed, RegistryError, RegistryRefused, RegistryUnavailable
from router.processes.child import Child
from router.processes.forkserver import ForkServerSupervisor
from tests.adapters.conftest import Facts, OpenRegistry
from tests.conftest import Figure
from tests.support.faulty_servers import Answer, a_page, black_hole, broken, is_poll, proxy_to, too_many
from tests.support.ports import free_port
from tests.support.registry_backends import RealRegistry

pytestmark = pytest.mark.asyncio(loop_scope="package")

NAMES = {PRODUCTION: "production"}
PATIENCE_SECONDS = 60.0


@pytest.fixture
def copied(sqlite: RealRegistry, tmp_path: Path) -> Path:
    """A database that the test may spoil; `seed` has the alias production at version 1."""
    sqlite.client.set_registered_model_alias("seed", "production", "1")
    return Path(shutil.copy(sqlite.database, tmp_path / "mlflow.db"))


def change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize("uri", ["sqlite:///{}/typo/mlflow.db", "sqlite+pysqlite:///{}/typo.db"])
async def test_a_mistyped_sqlite_path_is_an_error_and_creates_nothing(
    open_registry: OpenRegistry, tmp_path: Path, uri: str
) -> None:
    registry = open_registry(uri.format(tmp_path))

    for _ in range(2):
        with pytest.raises(RegistryError, match="there is no file"):
            await registry.poll("seed", NAMES)

    assert list(tmp_path.iterdir()) == []


async def test_a_mistyped_folder_is_an_error_and_creates_nothing(
    open_registry: OpenRegistry, tmp_path: Path
) -> None:
    registry = open_registry(str(tmp_path / "mlruns"), environ={"MLFLOW_ALLOW_FILE_STORE": "true"})

    with pytest.raises(RegistryError, match="is not an MLflow file store"):
        await registry.poll("seed", NAMES)

    assert list(tmp_path.iterdir()) == []


async def test_a_registry_appears_without_a_restart(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    sqlite.client.set_registered_model_alias("seed", "production", "1")
    registry = open_registry(f"sqlite:///{tmp_path / 'later.db'}")
    with pytest.raises(RegistryError):
        await registry.poll("seed", NAMES)

    shutil.copy(sqlite.database, tmp_path / "later.db")

    assert await registry.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 1)}


def _text(path: Path) -> None:
    path.write_text("not a database, whatever its name says\n" * 100)


def _empty(path: Path) -> None:
    path.touch()


def _another(path: Path) -> None:
    change(path, "CREATE TABLE shopping (item TEXT)")


@pytest.mark.parametrize(
    ("make", "said"),
    [(_text, "is not a SQLite database"), (_empty, "is not an MLflow"), (_another, "is not an MLflow")],
    ids=["text", "empty", "another"],
)
async def test_a_file_that_is_no_registry_is_named_and_left_alone(
    open_registry: OpenRegistry, tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "mlflow.db"
    make(path)
    before = path.read_bytes()

    with pytest.raises(RegistryError, match=said):
        await open_registry(f"sqlite:///{path}").poll("seed", NAMES)

    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["UPDATE alembic_version SET version_num = '451aebb31d03'", "DELETE FROM alembic_version"],
    ids=["older", "unknown"],
)
async def test_a_registry_of_another_schema_is_refused_and_never_migrated(
    copied: Path, open_registry: OpenRegistry, statement: str
) -> None:
    """MLflow's own store would create the missing table and run every migration when it opens this."""
    change(copied, statement)
    change(copied, "DROP TABLE webhooks")
    before = copied.read_bytes()

    with pytest.raises(RegistryRefused, match="mlflow db upgrade"):
        await open_registry(f"sqlite:///{copied}").poll("seed", NAMES)

    assert copied.read_bytes() == before
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


async def test_a_registry_that_a_newer_mlflow_migrated_is_followed_and_said_once(
    copied: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    """Row 48. One call of a newer client does it, also while a gateway polls the file."""
    registry = open_registry(f"sqlite:///{copied}")
    await registry.poll("seed", NAMES)
    change(copied, "CREATE TABLE made_by_a_newer_mlflow (name TEXT)")
    change(copied, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    change(copied, "UPDATE registered_model_aliases SET version = 2 WHERE name = 'seed'")
    before = copied.read_bytes()

    for _ in range(2):
        assert await registry.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 2)}
    await registry.fetch(VersionId("seed", 2), deadline_seconds=PATIENCE_SECONDS)

    assert [event.found for event in facts.of(RegistrySchemaNewer)] == ["ffffffffffff"]
    assert copied.read_bytes() == before


async def test_a_newer_schema_of_other_columns_is_refused_with_the_remedy_of_that_direction(
    copied: Path, open_registry: OpenRegistry
) -> None:
    registry = open_registry(f"sqlite:///{copied}")
    await registry.poll("seed", NAMES)
    change(copied, "ALTER TABLE registered_model_aliases ADD COLUMN region TEXT")
    change(copied, "UPDATE alembic_version SET version_num = 'ffffffffffff'")

    with pytest.raises(RegistryRefused, match=r"is newer than this MLflow.*column region.*start it again"):
        await registry.poll("seed", NAMES)


async def test_a_missing_table_is_an_error_and_is_not_created(
    copied: Path, open_registry: OpenRegistry
) -> None:
    """The last line of defence, when MLflow's own store begins to create it: the connection cannot write."""
    change(copied, "DROP TABLE metrics")
    before = copied.read_bytes()

    with pytest.raises(RegistryError):
        await open_registry(f"sqlite:///{copied}").poll("seed", NAMES)

    assert copied.read_bytes() == before


async def test_a_replaced_database_is_followed(
    copied: Path, open_registry: OpenRegistry, facts: Facts
) -> None:
    registry = open_registry(f"sqlite:///{copied}")
    before = await registry.poll("seed", NAMES)
    successor = Path(shutil.copy(copied, copied.with_name("successor.db")))
    change(successor, "UPDATE registered_model_aliases SET version = 2 WHERE name = 'seed'")

    successor.replace(copied)

    assert before == {PRODUCTION: VersionId("seed", 1)}
    assert await registry.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 2)}
    assert facts.of(ChildRestarted) == [ChildRestarted("agent", "the registry's database file was replaced")]


async def test_a_database_overwritten_in_place_is_followed(copied: Path, open_registry: OpenRegistry) -> None:
    """With the same change counter, by which an open connection knows that its cached pages are stale."""
    registry = open_registry(f"sqlite:///{copied}")
    successor = Path(shutil.copy(copied, copied.with_name("successor.db")))
    change(copied, "UPDATE registered_models SET description = 'one change here, one change there'")
    change(successor, "UPDATE registered_model_aliases SET version = 2 WHERE name = 'seed'")
    before = await registry.poll("seed", NAMES)

    copied.write_bytes(successor.read_bytes())

    assert before == {PRODUCTION: VersionId("seed", 1)}
    assert await registry.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 2)}


async def test_a_deleted_database_is_an_error_and_not_made_again(
    copied: Path, open_registry: OpenRegistry
) -> None:
    registry = open_registry(f"sqlite:///{copied}")
    await registry.poll("seed", NAMES)
    copied.unlink()

    with pytest.raises(RegistryError, match="there is no file"):
        await registry.poll("seed", NAMES)

    assert list(copied.parent.iterdir()) == []


async def test_a_locked_database_is_unavailable_within_the_deadline_and_then_back(
    copied: Path, open_registry: OpenRegistry, facts: Facts, slack: float
) -> None:
    registry = open_registry(f"sqlite:///{copied}")
    await registry.poll("seed", NAMES)
    with closing(sqlite3.connect(copied, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="locked"):
            await registry.poll("seed", NAMES)
        assert time.monotonic() - started < 8 * slack
        holder.execute("COMMIT")

    assert await registry.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 1)}
    assert facts.of(ChildRestarted) == []


async def test_a_refused_port_is_reported_at_once(open_registry: OpenRegistry, slack: float) -> None:
    """With MLflow's own retries it would be 247 s."""
    registry = open_registry(f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()

    with pytest.raises(RegistryUnavailable, match="refused"):
        await registry.poll("seed", NAMES)

    assert time.monotonic() - started < 10 * slack


async def test_a_tracking_server_that_is_away_fails_a_fetch_within_seconds(
    copied: Path, open_registry: OpenRegistry, slack: float, figure: Figure
) -> None:
    """MLflow's own retries would hold one of the two downloads at once for 247 s."""
    change(copied, "UPDATE model_versions SET storage_location = 'models:/m-1' WHERE name = 'seed'")
    registry = open_registry(f"sqlite:///{copied}", tracking_uri=f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()

    with pytest.raises(FetchFailed, match="refused"):
        await registry.fetch(VersionId("seed", 1), deadline_seconds=600)

    figure(f"a fetch beside a tracking server that is away: {time.monotonic() - started:.1f} s")
    assert time.monotonic() - started < 30 * slack


async def test_a_server_that_never_answers_is_reported_within_ten_seconds(
    open_registry: OpenRegistry, facts: Facts, slack: float
) -> None:
    with black_hole() as uri:
        started = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            await open_registry(uri).poll("seed", NAMES)

    assert time.monotonic() - started < 10 * slack
    assert facts.of(ChildRestarted) == []


@pytest.mark.slow
async def test_an_agent_that_hangs_is_ended_at_the_deadline_and_replaced(
    sqlite: RealRegistry, open_registry: OpenRegistry, facts: Facts, slack: float
) -> None:
    """A byte a second would pass MLflow's own timeouts for ever."""
    model = sqlite.new_model(1, production=1)
    registry = open_registry(sqlite.uri, poll_deadline_seconds=5.0 * slack)
    await registry.poll(model, NAMES)
    agent = registry.agent_pid
    assert agent is not None
    os.kill(agent, signal.SIGSTOP)
    started = time.monotonic()

    with pytest.raises(RegistryUnavailable, match="no answer within"):
        await registry.poll(model, NAMES)

    assert time.monotonic() - started < 8 * slack
    assert not Path("/proc", str(agent)).exists()
    assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}
    assert facts.of(ChildRestarted) == [ChildRestarted("agent", "it did not answer a poll in time")]


class FirstStopped:
    """The template; the first agent it launches is stopped before its imports."""

    def __init__(self, template: ForkServerSupervisor) -> None:
        self._template = template
        self.children: list[Child] = []

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        child = await self._template.launch(role, modules, version)
        if not self.children:
            os.kill(child.pid, signal.SIGSTOP)
        self.children.append(child)
        return child

    async def close(self) -> None:
        """The template is not ours."""

    async def stopped(self) -> int:
        """Process id of the first agent, once it was launched."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.children:
                await asyncio.sleep(0.01)
        return self.children[0].pid


@pytest.mark.slow
async def test_the_imports_of_the_agent_do_not_count_as_the_registrys_time(
    sqlite: RealRegistry,
    open_registry: OpenRegistry,
    template: ForkServerSupervisor,
    facts: Facts,
    slack: float,
) -> None:
    """On a busy machine they take longer than a poll may, and each new agent would be ended in the middle."""
    model = sqlite.new_model(1, production=1)
    launcher = FirstStopped(template)
    registry = open_registry(sqlite.uri, launcher=launcher, poll_deadline_seconds=3.0 * slack)
    poll = asyncio.ensure_future(registry.poll(model, NAMES))
    agent = await launcher.stopped()
    await asyncio.sleep(3.5 * slack)

    os.kill(agent, signal.SIGCONT)

    assert await poll == {PRODUCTION: VersionId(model, 1)}
    assert registry.agent_pid == agent
    assert facts.events == []


@pytest.mark.slow
async def test_an_agent_that_never_gets_ready_is_ended_at_its_own_deadline_and_replaced(
    sqlite: RealRegistry,
    open_registry: OpenRegistry,
    template: ForkServerSupervisor,
    facts: Facts,
    slack: float,
) -> None:
    model = sqlite.new_model(1, production=1)
    launcher = FirstStopped(template)
    registry = open_registry(sqlite.uri, launcher=launcher, start_deadline_seconds=15.0 * slack)

    with pytest.raises(RegistryUnavailable, match="the agent was not ready within"):
        await registry.poll(model, NAMES)

    assert launcher.children[0].exited.done()
    assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}
    assert facts.of(ChildRestarted) == [ChildRestarted("agent", "it was not ready in time")]


async def test_an_agent_that_ends_while_it_gets_ready_costs_no_poll(
    sqlite: RealRegistry, open_registry: OpenRegistry, template: ForkServerSupervisor, facts: Facts
) -> None:
    model = sqlite.new_model(1, production=1)
    launcher = FirstStopped(template)
    registry = open_registry(sqlite.uri, launcher=launcher)
    poll = asyncio.ensure_future(registry.poll(model, NAMES))

    os.kill(await launcher.stopped(), signal.SIGKILL)

    assert await poll == {PRODUCTION: VersionId(model, 1)}
    assert [event.reason for event in facts.of(ChildRestarted)] == ["signal 9 (SIGKILL)"]


async def test_closing_while_the_agent_gets_ready_ends_it(
    sqlite: RealRegistry, open_registry: OpenRegistry, template: ForkServerSupervisor
) -> None:
    launcher = FirstStopped(template)
    registry = open_registry(sqlite.uri, launcher=launcher)
    poll = asyncio.ensure_future(registry.poll("seed", NAMES))
    await launcher.stopped()

    await registry.close()

    with pytest.raises(RegistryUnavailable, match="closed"):
        await poll
    assert launcher.children[0].exited.done()


@pytest.mark.parametrize("number", ["99999999999999999999", "-1", "0", "seven"])
async def test_a_version_number_that_cannot_be_is_unavailable_and_does_not_end_the_agent(
    server: RealRegistry, open_registry: OpenRegistry, facts: Facts, number: str
) -> None:
    model = server.new_model(1, production=1)

    def misnumber(answer: Answer) -> None:
        if is_poll(answer):
            found = json.loads(answer.body)
            found["registered_model"]["aliases"] = [{"alias": "production", "version": number}]
            answer.body = json.dumps(found).encode()

    with proxy_to(server.uri) as proxy:
        registry = open_registry(proxy.uri)
        assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}
        agent, proxy.spoil = registry.agent_pid, misnumber
        with pytest.raises(RegistryUnavailable, match=number):
            await registry.poll(model, NAMES)
        proxy.mend()
        assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}

    assert registry.agent_pid == agent
    assert facts.events == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_the_death_of_the_agent_costs_no_poll(
    sqlite: RealRegistry, open_registry: OpenRegistry, facts: Facts, number: signal.Signals
) -> None:
    model = sqlite.new_model(1, production=1)
    registry = open_registry(sqlite.uri)
    await registry.poll(model, NAMES)
    assert registry.agent_pid is not None

    os.kill(registry.agent_pid, number)

    assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}
    assert [event.reason for event in facts.of(ChildRestarted)] == [f"signal {number.value} ({number.name})"]


async def test_a_stop_of_the_whole_group_leaves_the_agent_to_the_gateway(
    sqlite: RealRegistry, open_registry: OpenRegistry, facts: Facts
) -> None:
    model = sqlite.new_model(1, production=1)
    registry = open_registry(sqlite.uri)
    await registry.poll(model, NAMES)
    agent = registry.agent_pid
    assert agent is not None

    os.kill(agent, signal.SIGTERM)
    os.kill(agent, signal.SIGINT)

    assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}
    assert registry.agent_pid == agent
    assert facts.events == []


async def test_a_cancelled_poll_does_not_hold_up_the_next(
    sqlite: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = sqlite.new_model(1, production=1)
    registry = open_registry(sqlite.uri)
    await registry.poll(model, NAMES)
    assert registry.agent_pid is not None
    os.kill(registry.agent_pid, signal.SIGSTOP)
    poll = asyncio.ensure_future(registry.poll(model, NAMES))
    await asyncio.sleep(0)

    poll.cancel()

    assert await asyncio.gather(poll, return_exceptions=True)
    assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}


def _nothing(answer: Answer) -> None:
    answer.body = b""


def _an_empty_object(answer: Answer) -> None:
    answer.body = b"{}"


def _not_found(answer: Answer) -> None:
    answer.status, answer.body = 404, b"<html>no such page</html>"


def _no_entry(answer: Answer) -> None:
    answer.status, answer.body = 401, b"who are you?"


SILENT = (a_page, _nothing, _an_empty_object, _not_found, broken, too_many)


@pytest.mark.parametrize(
    ("spoil", "raised"),
    [*((spoil, RegistryUnavailable) for spoil in SILENT), (_no_entry, RegistryRefused)],
)
async def test_what_names_no_aliases_is_an_error_and_never_an_empty_wish(
    server: RealRegistry,
    open_registry: OpenRegistry,
    spoil: Callable[[Answer], None],
    raised: type[RegistryError],
    slack: float,
) -> None:
    """MLflow reads an empty 200 as an empty model: taken at its word, the canary would end."""
    model = server.new_model(1, production=1)

    def only_polls(answer: Answer) -> None:
        if is_poll(answer):
            spoil(answer)

    with proxy_to(server.uri) as proxy:
        registry = open_registry(proxy.uri)
        assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}
        agent, started = registry.agent_pid, time.monotonic()
        proxy.spoil = only_polls
        with pytest.raises(raised) as caught:
            await registry.poll(model, NAMES)
        assert time.monotonic() - started < 10 * slack
        proxy.mend()
        assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}

    assert registry.agent_pid == agent
    assert len(str(caught.value)) <= 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED")])
async def test_a_server_that_forbids_is_not_one_that_does_not_answer(
    server: RealRegistry, open_registry: OpenRegistry, status: int, code: str
) -> None:
    """Waiting does not help: somebody has to give the gateway the right to read."""
    model = server.new_model(1, production=1)

    def forbid(answer: Answer) -> None:
        if is_poll(answer):
            answer.status = status
            answer.body = json.dumps({"error_code": code, "message": "not for you"}).encode()

    with proxy_to(server.uri) as proxy:
        registry = open_registry(proxy.uri)
        proxy.spoil = forbid
        with pytest.raises(RegistryRefused, match="not for you"):
            await registry.poll(model, NAMES)
        proxy.mend()
        assert await registry.poll(model, NAMES) == {PRODUCTION: VersionId(model, 1)}


async def test_credentials_never_reach_an_error(open_registry: OpenRegistry) -> None:
    uri = f"http://ada:hunter2@127.0.0.1:{free_port()}"
    environ = {"MLFLOW_TRACKING_USERNAME": "bob", "MLFLOW_TRACKING_PASSWORD": "s3cret"}

    with pytest.raises(RegistryUnavailable) as caught:
        await open_registry(uri, environ=environ).poll("seed", NAMES)

    assert "127.0.0.1" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("ada", "hunter2", "bob", "s3cret"))


async def test_a_closed_registry_leaves_no_process_and_starts_none(
    sqlite: RealRegistry, open_registry: OpenRegistry
) -> None:
    model = sqlite.new_model(1, production=1)
    registry = open_registry(sqlite.uri)
    await registry.poll(model, NAMES)
    agent = registry.agent_pid

    await registry.close()

    assert not Path("/proc", str(agent)).exists()
    with pytest.raises(RegistryUnavailable, match="closed"):
        await registry.poll(model, NAMES)
