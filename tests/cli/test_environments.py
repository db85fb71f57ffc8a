"""`canary-router environments` shows what is kept, prepares what will serve, removes what nobody needs."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.adapters.cache_locks import CacheLocks
from router.agent.cache import part_name
from router.cli import root
from router.core.ids import CANARY, PRODUCTION, ROLLBACK, Alias, VersionId
from router.core.version_environment import FOLDER, VersionEnvironment
from router.environments import store
from router.errors import EnvironmentRefused, RegistryUnavailable
from tests.support.environments import FINGERPRINT, make_environment

MODELS = "models:\n  m: {environment: own, split: {production: 100}}\n  other: {split: {production: 100}}\n"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Of the configuration."""
    return tmp_path / "cache"


@pytest.fixture
def config(tmp_path: Path, cache: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(f"registry: {{uri: 'http://127.0.0.1:9', cache_dir: {cache}}}\n{MODELS}")
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(root, ["environments", "-c", str(config), *arguments])


def test_without_any_environment_it_says_so(config: Path, cache: Path) -> None:
    ended = run(config)

    assert (ended.exit_code, ended.output) == (0, f"no environment is kept in {cache}/.environments\n")


async def test_it_lists_what_is_kept_the_last_used_first(config: Path, cache: Path) -> None:
    kept = [make_environment(cache, digit * 64) for digit in "ab"]
    for number in range(1, 7):
        store.note_use(kept[0].place, cache / "fraud" / f"{number}-{FINGERPRINT}" / "files")
        os.utime(kept[0].place / store.VERSIONS / f"fraud@{number}-{FINGERPRINT}", (number, number))
    for one, when in zip(kept, (100, 200), strict=True):
        os.utime(one.place, (when, when))
    gateway = CacheLocks()
    assert await gateway.acquire(VersionId("m", 1), str(kept[1].place / store.VENV))
    os.utime(kept[1].place, (200, 200))

    table, document = run(config), json.loads(run(config, "--output", "json").output)

    assert table.exit_code == 0
    assert "fraud v6," in table.output
    assert [row["digest"] for row in document["environments"]] == ["b" * 64, "a" * 64]
    assert [row["in_use"] for row in document["environments"]] == [True, False]
    assert document["environments"][1] == {
        "digest": "a" * 64,
        "python": kept[0].about.python,
        "pins": "f" * 64,
        "size_bytes": kept[0].about.size_bytes,
        "build_seconds": 1.0,
        "gateway": "0.1.0",
        "versions": [f"fraud v{number}" for number in range(6, 0, -1)],
        "last_used": "1970-01-01T00:01:40Z",
        "in_use": False,
        "last_good": False,
    }
    assert document["size_bytes"] == sum(one.about.size_bytes for one in kept)
    await gateway.close()


async def test_prune_leaves_what_a_gateway_uses(config: Path, cache: Path) -> None:
    used, unused = (make_environment(cache, digit * 64) for digit in "ab")
    gateway = CacheLocks()
    assert await gateway.acquire(VersionId("m", 1), str(used.place / store.VENV))

    ended = run(config, "--prune", "--output", "json")

    assert ended.exit_code == 0
    assert json.loads(ended.output) == {
        "removed": [unused.about.short],
        "removed_bytes": unused.about.size_bytes,
        "left_bytes": used.about.size_bytes,
    }
    assert store.places_in(cache / FOLDER) == [used.place]
    assert run(config, "--prune").output == "removed nothing: 0 MiB; 0 MiB are left\n"
    await gateway.close()


def test_prune_removes_what_a_killed_build_left(config: Path, cache: Path) -> None:
    """On a full disk nothing else may: it goes with the next build otherwise, if there is one."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    part = store.open_root(cache) / part_name("0" * 16).replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    (part / "venv").mkdir(parents=True)

    assert run(config, "--prune").exit_code == 0

    assert not part.exists()


class World:
    """A registry of one model with a canary, a former production and a last good version."""

    def __init__(self) -> None:
        self.source = self.fetcher = self.environments = self
        self.reachable = True
        self.prepared: list[int] = []

    async def last_known_good(self, model: str, aliases: Mapping[Alias, str]) -> Mapping[Alias, VersionId]:
        assert ROLLBACK in aliases
        return {PRODUCTION: VersionId(model, 1)}

    async def poll(self, model: str, aliases: Mapping[Alias, str]) -> Mapping[Alias, VersionId]:
        if not self.reachable:
            raise RegistryUnavailable("it did not answer")
        named = {PRODUCTION: 2, CANARY: 3, ROLLBACK: 1}
        return {role: VersionId(model, number) for role, number in named.items()}

    async def fetch(self, version: VersionId, *, deadline_seconds: float) -> str:
        return f"/cache/{version.number}"

    async def prepare(self, version: VersionId, directory: str) -> Any:
        assert directory == f"/cache/{version.number}"
        self.prepared.append(version.number)
        if version.number == 3:
            raise EnvironmentRefused("m v3: requirements.txt line 1: an option")
        about = VersionEnvironment("a" * 64, "/venv/bin/python", "3.11.7", "b" * 64, 630 << 20, 12.5)
        return type("Prepared", (), {"about": about, "note": ""})()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[World]:
        yield world

    monkeypatch.setattr(import_module("router.cli.environments"), "open_backends", opened)
    return world


def test_build_prepares_what_is_served_last_good_and_previous(config: Path, world: World) -> None:
    ended = run(config, "--build")

    assert ended.exit_code == 1
    assert world.prepared == [1, 2, 3]
    assert ended.output.splitlines() == [
        "ok   m v1: environment aaaaaaaaaaaa, Python 3.11.7, 630 MiB",
        "ok   m v2: environment aaaaaaaaaaaa, Python 3.11.7, 630 MiB",
        "FAIL m v3: requirements.txt line 1: an option",
    ]


def test_build_prepares_what_is_recorded_where_the_registry_gives_no_answer(
    config: Path, world: World
) -> None:
    world.reachable = False

    ended = run(config, "--build", "-o", "json")

    assert ended.exit_code == 1
    document = json.loads(ended.output)
    assert [(row["version"], row["ok"]) for row in document["versions"]] == [(None, False), (1, True)]
    assert document["versions"][1]["environment"]["digest"] == "a" * 64


def test_build_says_where_no_model_has_an_environment_of_its_own(config: Path, world: World) -> None:
    config.write_text(config.read_text().replace("environment: own, ", ""))

    ended = run(config, "--build")

    assert (ended.exit_code, world.prepared) == (0, [])
    assert "no model says `environment: own`" in ended.output


def test_build_and_prune_do_not_go_together(config: Path) -> None:
    assert run(config, "--build", "--prune").exit_code == 2
