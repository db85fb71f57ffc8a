"""Answers are judged by what was asked for when they came, not by what we had heard by then."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from router.demo.answer import Answer
from router.demo.material import Material, TrainedVersion
from router.demo.operator import Registry
from router.demo.probe import Checker
from router.demo.timeline import Timeline
from router.demo.watch import Watch, read_splits

MATERIAL = Material("sentiment", [{"text": "fine"}], {n: TrainedVersion(n, "", [n / 10]) for n in (1, 2)})


class _Registry(Registry):
    """Answers from memory."""

    def __init__(self) -> None:
        self.named = {"production": 1, "canary": 2}
        self.broken = False

    async def aliases(self, model: str) -> dict[str, int]:
        if self.broken:
            raise MlflowException("database is locked")
        return dict(self.named)


@pytest.fixture
def registry() -> _Registry:
    return _Registry()


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "router.yaml"
    file.write_text("models: {sentiment: {split: {production: 95, canary: 5}}}\n")
    return file


@pytest.fixture
def checker() -> Checker:
    named = {("sentiment", alias): Timeline[int | None](n) for alias, n in (("production", 1), ("canary", 2))}
    return Checker({"sentiment": MATERIAL}, {"sentiment": Timeline(5.0)}, named)


def _answer(version: int) -> Answer:
    now = time.monotonic()
    return Answer(
        "sentiment",
        row=0,
        key="user-1",
        sent=now,
        received=now,
        status=200,
        alias="production",
        version=version,
        route_alias="production",
        reason="hash",
        bucket=62121,
        predictions=[version / 10],
    )


async def test_a_gateway_that_sees_a_move_before_we_do_is_not_wrong(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    await watch.look()
    registry.named["production"] = 2
    watch.receive(_answer(version=2))
    await watch.look()

    assert (checker.judged, checker.wrong) == (1, 0)
    assert checker.named["sentiment", "production"].latest.shown_at is not None


async def test_an_answer_by_a_version_that_was_never_named_is_wrong(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    watch.receive(_answer(version=2))
    await watch.look()

    assert checker.wrong == 1


async def test_while_the_registry_can_not_be_read_nothing_is_judged(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    watch.receive(_answer(version=2))
    registry.broken = True
    await watch.look()
    assert checker.judged == 0

    registry.broken, registry.named["production"] = False, 2
    await watch.look()
    assert (checker.judged, checker.wrong) == (1, 0)


async def test_after_the_end_the_watch_goes_on_until_every_answer_is_judged(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    watch.receive(replace(_answer(version=1), received=time.monotonic() + 0.1))
    watch.finish()
    await watch.keep_looking()

    assert checker.judged == 1


@pytest.mark.parametrize(
    "text",
    ["", "models: [", "models: {sentiment: {}}", "models: 3", "models: {sentiment: {split: {canary: a}}}"],
)
def test_a_file_that_makes_no_sense_asks_for_nothing(config_file: Path, text: str) -> None:
    """The gateway refuses it and keeps its split; so do we."""
    assert read_splits(config_file) == {"sentiment": 5.0}
    config_file.write_text(text)
    assert read_splits(config_file) == {}
    config_file.unlink()
    assert read_splits(config_file) == {}
