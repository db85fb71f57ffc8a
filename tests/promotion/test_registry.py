"""The contract of a registry, which the one in memory and MLflow's keep; and what MLflow's refuses."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.db import utils as mlflow_schema

from router.agent.sqlite_file import read_only
from router.errors import (
    ModelUnknown,
    PromotionRefused,
    RegistryRefused,
    RegistryUnavailable,
    VersionUnknown,
)
from router.promotion.ports import RoleNames
from router.promotion.promote import Promotion, promote
from router.promotion.records import MOST_BYTES, PROMOTION_TAG, ROLLBACK_TAG, read_record
from router.promotion.registry import MlflowRegistry, check_schema
from router.promotion.rollback import rollback
from tests.promotion.conftest import FAKE, SERVER, SQLITE, Case, new_model, opened_registry
from tests.promotion.fakes import (
    ALIASES,
    STAGES,
    FakeGateways,
    FakeOperator,
    command,
    killed_and_run_again,
    production_and_canary,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
OpenCase = Callable[..., Case]
OLDER, NEWER = "451aebb31d03", "ffffffffffff"

each_kind = pytest.mark.parametrize("kind", [FAKE, SQLITE, SERVER])


@each_kind
def test_aliases_and_stages_are_read_together_and_what_names_none_is_absent(
    open_case: OpenCase, kind: str
) -> None:
    case = open_case(kind, {1: "Production", 2: "Staging", 3: "Staging"}, production=1, champion=3)

    found = case.registry.read(
        case.model, "production", "champion", "canary", "stage:staging", "stage:Production", "stage:Archived"
    )

    assert found == {"production": 1, "champion": 3, "stage:staging": 3, "stage:Production": 1}


@each_kind
def test_an_alias_is_set_moved_and_removed_and_each_twice_is_as_good_as_once(
    open_case: OpenCase, kind: str
) -> None:
    case = open_case(kind)
    registry, model = case.registry, case.model
    for version in (1, 1, 2):
        registry.point(model, "production", version)
        assert registry.read(model, "production") == {"production": version}
    for _ in range(2):
        registry.withdraw(model, "production", 2)
        assert registry.read(model, "production") == {}


@each_kind
def test_a_version_that_enters_a_stage_archives_what_was_there(open_case: OpenCase, kind: str) -> None:
    case = open_case(kind, {1: "Production", 2: "Staging", 3: "Production"})
    registry, model = case.registry, case.model
    stages = ("stage:Production", "stage:Staging", "stage:Archived")

    for _ in range(2):
        registry.point(model, "stage:production", 2)
        assert registry.read(model, *stages) == {"stage:Production": 2, "stage:Archived": 3}
    registry.withdraw(model, "stage:Production", 2)

    assert registry.read(model, *stages) == {"stage:Archived": 3}


@each_kind
def test_a_tag_is_read_as_it_was_written(open_case: OpenCase, kind: str) -> None:
    case = open_case(kind)
    value = '{"reason":"ünï 𝄞 \\"quoted\\""}' + "x" * (MOST_BYTES - 40)
    case.registry.tag(case.model, 2, "canary_router.promotion", "{}")
    case.registry.tag(case.model, 2, "canary_router.promotion", value)

    assert case.registry.tags(case.model, 2) == {"canary_router.promotion": value}
    assert case.registry.tags(case.model, 1) == {}


@each_kind
def test_what_does_not_exist_is_named_as_such(open_case: OpenCase, kind: str) -> None:
    case = open_case(kind)
    registry, model = case.registry, case.model

    with pytest.raises(ModelUnknown):
        registry.read("no such model", "production")
    for act in (
        lambda: registry.tags(model, 9),
        lambda: registry.point(model, "production", 9),
        lambda: registry.point(model, "stage:Production", 9),
        lambda: registry.tag(model, 9, "key", "value"),
    ):
        with pytest.raises(VersionUnknown):
            act()


# ---- the whole order of steps


def outcome(case: Case, names: RoleNames) -> dict[str, Any]:
    registry, model = case.registry, case.model
    record = read_record(registry.tags(model, 2), PROMOTION_TAG)
    left = read_record(registry.tags(model, 2), ROLLBACK_TAG)
    return {
        **registry.read(model, names.production, names.canary, names.previous, "stage:Archived"),
        "from": record.get("from"),
        "left": left.get("to"),
    }


STEPS = [
    *(("aliases", ALIASES, step) for step in range(8)),
    *(("stages", STAGES, step) for step in range(6)),
]


@pytest.mark.parametrize(("_", "names", "step"), STEPS, ids=[f"{name}-{step}" for name, _, step in STEPS])
def test_killed_around_any_write_to_a_sqlite_registry_and_run_again_there_is_one_end(
    open_case: OpenCase, names: RoleNames, step: int, _: str
) -> None:
    """And one after a rollback that was killed and run again, too."""
    case = open_case(SQLITE, **production_and_canary(names))
    gateways = FakeGateways(case.registry, names, model=case.model)
    asked = command(names, model=case.model)

    def run(registry: Any) -> None:
        promote(registry, gateways, asked, Promotion(), FakeOperator())

    def run_back(registry: Any) -> None:
        rollback(registry, gateways, asked, FakeOperator())

    last = 5 if names is STAGES else 7
    killed_and_run_again(case.registry, run, step, last=last, done="was promoted at")
    archived = {"stage:Archived": 1} if names is STAGES else {}
    assert outcome(case, names) == {names.production: 2, "previous": 1, "from": 1, "left": None, **archived}

    killed_and_run_again(case.registry, run_back, step % 4, last=3, done="names v1 already")
    archived = {"stage:Archived": 2} if names is STAGES else {}
    assert outcome(case, names) == {names.production: 1, "previous": 1, "from": 1, "left": 1, **archived}


@pytest.mark.parametrize("names", [ALIASES, STAGES], ids=["aliases", "stages"])
def test_a_model_goes_through_a_server_from_registration_to_rollback(
    open_case: OpenCase, names: RoleNames
) -> None:
    case = open_case(SERVER, **production_and_canary(names))
    gateways = FakeGateways(case.registry, names, model=case.model)
    asked = command(names, model=case.model)

    promote(case.registry, gateways, asked, Promotion(), FakeOperator())
    promoted = outcome(case, names)
    rollback(case.registry, gateways, asked, FakeOperator())

    assert (promoted[names.production], promoted.get(names.canary), promoted["from"]) == (2, None, 1)
    assert outcome(case, names)[names.production] == 1
    with pytest.raises(PromotionRefused, match="names v1 already"):
        rollback(case.registry, gateways, asked, FakeOperator())


# ---- what is refused before MLflow sees it


@pytest.fixture
def database(sqlite_uri: str, tmp_path: Path) -> Path:
    return Path(shutil.copy(sqlite_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db"))


def revise(database: Path, revision: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{revision}'")


@pytest.mark.parametrize(("revision", "side"), [(OLDER, "an older"), (NEWER, "a newer")])
def test_a_sqlite_registry_of_another_mlflow_is_neither_opened_nor_migrated(
    database: Path, revision: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    revise(database, revision)
    before = database.read_bytes()

    with pytest.raises(RegistryRefused, match=f"{revision} is that of {side} MLflow.*with --registry"):
        opened_registry(f"sqlite:///{database}", monkeypatch)

    assert database.read_bytes() == before


def test_a_sqlite_registry_that_is_not_there_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent" / "mlflow.db"

    with pytest.raises(RegistryRefused, match=f"there is no file {absent}"):
        opened_registry(f"sqlite:///{absent}", monkeypatch)

    assert not absent.parent.exists()


def test_a_database_of_another_kind_is_looked_at_as_well(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revise(database, NEWER)
    # It is replaced by the check, and put back after the test.
    monkeypatch.setattr(mlflow_schema, "_verify_schema", mlflow_schema._verify_schema)
    monkeypatch.setattr("router.promotion.registry.sqlite_file.is_sqlite", lambda _: False)
    monkeypatch.setattr("router.agent.sqlite_file.is_sqlite", lambda _: False)

    with pytest.raises(Exception, match="is that of a newer MLflow"):
        check_schema(f"sqlite:///{database}")


def test_a_server_that_is_away_is_unavailable_and_its_password_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://ann:hidden@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    with pytest.raises(RegistryUnavailable) as caught:
        MlflowRegistry(uri, uri).read("sentiment", "production")

    assert "hidden" not in str(caught.value)


def test_a_database_that_may_not_be_written_is_said_to_be_so(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{database}"
    model = new_model(uri, production=1)
    registry = opened_registry(read_only(uri), monkeypatch)

    with pytest.raises(RegistryUnavailable, match="readonly database"):
        registry.point(model, "production", 2)

    assert registry.read(model, "production") == {"production": 1}
