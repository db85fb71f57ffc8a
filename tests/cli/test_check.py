"""`canary-router check` loads a version as the gateway would."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from router.cli import root
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.protocol.messages import LoadSpec, VersionInfo


class World:
    """A registry with two versions and a loader that remembers how each was to be loaded."""

    def __init__(self) -> None:
        self.source = self.fetcher = self.loader = self
        self.specs: list[LoadSpec] = []

    async def poll(self, model: str, aliases: Mapping[str, str]) -> Mapping[str, VersionId]:
        return {PRODUCTION: VersionId(model, 1), CANARY: VersionId(model, 2)}

    async def fetch(self, version: VersionId, *, deadline_seconds: float, fresh: bool = False) -> str:
        assert deadline_seconds == 33.0
        return f"/cache/{version.number}"

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Any:
        assert deadline_seconds == 33.0
        self.specs.append(spec)
        info = VersionInfo("", "sklearn", False, False, {"load": 0.1}, ())

        async def close() -> None: ...

        return SimpleNamespace(info=info, close=close)


def test_it_loads_a_version_with_every_setting_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How requests share predicts, how many run side by side, and how NaN is spelled: all of it can fail."""
    world = World()

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[World]:
        yield world

    monkeypatch.setattr(import_module("router.cli.check"), "open_backends", opened)
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
