"""`canary-router check` loads a version as the gateway would."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from router.cli import root
from router.core.gate import GateEvidence
from router.core.gate_record import GateRecord, gate_tag
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.verdict import Verdict
from router.core.version_address import AtAddress
from router.errors import EnvironmentRefused, RegistryUnavailable
from router.protocol.messages import LoadSpec, VersionInfo
from tests.support.fakes import registered
from tests.support.sample_events import environment_of


class World:
    """A registry with two versions and a loader that remembers how each was to be loaded."""

    def __init__(self, cache: str = "/cache") -> None:
        self.source = self.fetcher = self.loader = self.gate_source = self
        self.environments: Any = None
        self.cache, self.effects = cache, ""
        self.specs: list[LoadSpec] = []
        self.at_address: AtAddress | None = None
        self.addresses = SimpleNamespace(loader=lambda _where: self)

    async def poll(self, model: str, aliases: Mapping[str, str]) -> Mapping[str, VersionId]:
        return {PRODUCTION: VersionId(model, 1), CANARY: VersionId(model, 2)}

    async def fetch(self, version: VersionId, *, deadline_seconds: float, fresh: bool = False) -> str:
        assert deadline_seconds == 33.0
        return f"{self.cache}/{version.number}"

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Any:
        assert deadline_seconds == (30.0 if self.at_address else 33.0)
        self.specs.append(spec)
        info = VersionInfo("", "sklearn", False, False, {"load": 0.1}, (), effects=self.effects)

        async def close() -> None: ...

        return SimpleNamespace(info=info, close=close, at_address=self.at_address)

    async def gate_evidence(
        self, version: VersionId, required: Sequence[str], *, deadline_seconds: float
    ) -> GateEvidence:
        if version.number == 2:
            raise RegistryUnavailable("connection refused")
        record = GateRecord(registered(version), Verdict.PASS, None, 0.0, "ci")
        return GateEvidence(registered(version), gate_tag(record), None)


class OwnEnvironments:
    """Prepares an environment for each version, and loads in it; version 2 is refused."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def prepare(self, version: VersionId, directory: str) -> Any:
        if version.number == 2:
            raise EnvironmentRefused(f"{version}: requirements.txt line 3: has the option --index-url")
        return SimpleNamespace(about=environment_of(), note="Python 3.11 in place of 3.10", loader=self)

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Any:
        assert spec.own_environment
        return await self.world.load(spec, deadline_seconds=deadline_seconds)


Opens = Callable[[World], None]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Opens:
    """Has `check` find a world in the place of the real one."""

    def opens(world: World) -> None:
        @asynccontextmanager
        async def opened(*_: object) -> AsyncIterator[World]:
            yield world

        monkeypatch.setattr(import_module("router.cli.check"), "open_backends", opened)

    return opens


@pytest.fixture
def own(tmp_path: Path, opens: Opens) -> Callable[..., Result]:
    """Runs `check` of a model whose versions have environments of their own, and require these lines."""

    def check(*requirements: str, output: str = "table") -> Result:
        world = World(str(tmp_path))
        world.environments = OwnEnvironments(world)
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "requirements.txt").write_text("\n".join(requirements))
        path = tmp_path / "router.yaml"
        path.write_text(
            "registry: {download_timeout_seconds: 33}\n"
            "models:\n"
            "  m: {environment: own, split: {production: 95, canary: 5}}\n"
        )
        opens(world)
        return CliRunner().invoke(root, ["check", "m", "-c", str(path), "-o", output])

    return check


def test_what_the_gate_says_is_shown_and_keeps_nobody_from_starting(opens: Opens, tmp_path: Path) -> None:
    """The check is what some run before a start."""
    path = tmp_path / "router.yaml"
    path.write_text(
        "registry: {download_timeout_seconds: 33}\n"
        "models:\n"
        "  m: {split: {production: 95, canary: 5}, gate: {canary: required, production: report}}\n"
    )
    opens(World())

    done = CliRunner().invoke(root, ["check", "m", "-c", str(path)])

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    # Of production a record may have any age: this one is of 1970.
    assert "     the gate: passed at 1970-01-01T00:00:00Z, by ci" in lines
    assert "     the gate: not passed: the registry: connection refused" in lines


def test_a_version_that_pre_flights_and_shadows_leave_out_is_named(opens: Opens, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(
        "registry: {download_timeout_seconds: 33}\n"
        "models:\n"
        "  m: {split: {production: 95, canary: 5}, preflight: {}, shadow: {canary: 10}}\n"
    )
    world = World()
    world.effects = "it is an agent"
    opens(world)

    done = CliRunner().invoke(root, ["check", "m", "-c", str(path)])

    assert done.exit_code == 0, done.output
    assert done.stdout.count("     left out of pre-flights: it is an agent\n") == 2
    assert done.stdout.count("     left out of shadows: it is an agent\n") == 2


def test_an_environment_of_its_own_is_built_and_shown_and_a_refusal_is_named(
    own: Callable[..., Result],
) -> None:
    done = own("scikit-learn==1.5.2", "mlflow>=2")
    assert done.exit_code == 1, done.output
    assert done.stdout.splitlines()[2:6] == [
        "     own environment 888888888888: Python 3.11.7, pins 3f9c3f9c3f9c, 601 MiB, built in 6.2 s",
        "     scikit-learn 1.5.2, the gateway has 1.7.1",
        "     Python 3.11 in place of 3.10",
        "FAIL m@canary v2",
    ]
    assert done.stdout.splitlines()[6] == "     m v2: requirements.txt line 3: has the option --index-url"
    assert "m v1: its environment is looked for, and built where it is missing" in done.stderr


def test_a_version_that_does_not_pin_what_it_needs_should_be_logged_with_its_pins(
    own: Callable[..., Result],
) -> None:
    """What the gateway brings is not among it."""
    done = own("scikit-learn==1.5.2", "pandas<3", "numpy", "mlflow", "cloudpickle==3.*", output="json")
    production, canary = orjson.loads(done.stdout)["aliases"]
    assert production["environment"]["pins"] == "3f9c" * 16
    assert production["environment"]["note"] == "Python 3.11 in place of 3.10"
    [advice] = production["advice"]
    assert "pandas, numpy, cloudpickle " in advice
    assert "MLFLOW_LOCK_MODEL_DEPENDENCIES=true" in advice
    assert (canary["ok"], "environment" in canary) == (False, False)


def test_it_loads_a_version_with_every_setting_of_its_model(tmp_path: Path, opens: Opens) -> None:
    """How requests share predicts, how many run side by side, and how NaN is spelled: all of it can fail."""
    world = World()
    opens(world)
    path = tmp_path / "router.yaml"
    path.write_text(
        "registry: {download_timeout_seconds: 33}\n"
        "models:\n"
        "  m:\n"
        "    batching: off\n"
        "    batching_rtol: 0.001\n"
        "    threads: 3\n"
        '    nan: "null"\n'
        "    scores: {output: 1, range: [0, 2], bins: 10}\n"
    )
    done = CliRunner().invoke(root, ["check", "m", "-c", str(path)])

    assert done.exit_code == 0, done.output
    assert [(spec.version.number, spec.directory) for spec in world.specs] == [
        (1, "/cache/1"),
        (2, "/cache/2"),
    ]
    assert "does not share predicts: not looked at yet" in done.output
    for spec in world.specs:
        assert (spec.batches, spec.rtol, spec.threads, spec.nan_is_null) == (False, 0.001, 3, True)
        assert spec.scores is not None
        assert [(one.low, one.high, one.bins) for one in spec.scores] == [(0, 2, 10)]


def test_of_a_version_elsewhere_it_says_where_and_what_does_not_apply(opens: Opens, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(
        "registry: {download_timeout_seconds: 33}\n"
        "models:\n"
        "  m:\n"
        "    split: {production: 100}\n"
        "    workers: 2\n"
        "    where: {http: 'http://m-v{version}.models'}\n"
    )
    world = World()
    world.at_address = AtAddress("http://m-v1.models/v2/models/m/infer", "v2", verified=False)
    opens(world)

    done = CliRunner().invoke(root, ["check", "m", "-c", str(path)])

    assert done.exit_code == 0, done.output
    assert "     runs elsewhere: http://m-v1.models/v2/models/m/infer, asked by v2\n" in done.stdout
    assert "     unverified: have GET /v2/models/NAME name the version under `versions`" in done.stdout
    assert "     without effect there: workers\n" in done.stdout
    assert "     not known of it: rows, cost, memory" in done.stdout
    assert "shares" not in done.stdout
