"""A registry and gateways in memory, an operator who answers, and registries that are interrupted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.core.ids import CANARY, PRODUCTION, STAGE
from router.errors import ModelUnknown, PromotionRefused, VersionUnknown
from router.promotion.ports import VERB_SECONDS, Command, Documents, NoDocument, Registry, RoleNames, is_stage

MODEL = "sentiment"
ALIASES = RoleNames("production", "canary")
STAGES = RoleNames("stage:Production", "stage:Staging")
DIGEST, HEAD = "c0ffee", "a1b2c3"
GATEWAY, OTHER, THIRD = (f"http://gw-{number}:8081" for number in (1, 2, 3))


class Killed(BaseException):
    """The process ended here."""


def command(
    names: RoleNames = ALIASES, *, model: str = MODEL, wait: float | None = 0.0, **more: Any
) -> Command:
    """By default what looks once whether every gateway serves it."""
    return Command(model, names, **{"by": "ann", "reason": "all checks pass", "wait_seconds": wait, **more})


SAID = {"model": MODEL, "by": "ann", "reason": "all checks pass"}
"""What gateways are sent with the request to look at the registry."""


def production_and_canary(names: RoleNames) -> dict[str, Any]:
    """Of a registry in which version 1 is production and version 2 the canary, as keywords."""
    if names is STAGES:
        return {"stages": {1: "Production", 2: "Staging"}}
    return {names.production: 1, names.canary: 2}


class FakeRegistry:
    """Implements `Registry`, as MLflow does."""

    def __init__(self, versions: int = 3, stages: Mapping[int, str] | None = None, **aliases: int) -> None:
        self.aliases = dict(aliases)
        self.stages = dict.fromkeys(range(1, versions + 1), "None") | dict(stages or {})
        self.all_tags: dict[int, dict[str, str]] = {number: {} for number in self.stages}

    def read(self, model: str, *names: str) -> dict[str, int]:
        if model != MODEL:
            raise ModelUnknown(model)
        return {name: found for name in names if (found := self._named(name)) is not None}

    def tags(self, model: str, version: int) -> dict[str, str]:
        self._require(version)
        return dict(self.all_tags[version])

    def point(self, model: str, name: str, version: int) -> None:
        self._require(version)
        if not is_stage(name):
            self.aliases[name] = version
            return
        stage = name.removeprefix(STAGE).title()
        for other, there in self.stages.items():
            if there == stage:
                self.stages[other] = "Archived"
        self.stages[version] = stage

    def withdraw(self, model: str, name: str, version: int) -> None:
        if is_stage(name):
            self.stages[version] = "None"
        else:
            self.aliases.pop(name, None)

    def tag(self, model: str, version: int, key: str, value: str) -> None:
        self._require(version)
        self.all_tags[version][key] = value

    def _named(self, name: str) -> int | None:
        if not is_stage(name):
            return self.aliases.get(name)
        stage = name.removeprefix(STAGE).title()
        return max((number for number, there in self.stages.items() if there == stage), default=None)

    def _require(self, version: int) -> None:
        if version not in self.stages:
            raise VersionUnknown(f"no version {version}")


class Interrupted:
    """A registry whose calls are counted; `act` is called before and after each, with its number from 0."""

    def __init__(self, registry: Registry, act: Callable[[int], None]) -> None:
        self.calls: list[str] = []
        self._registry = registry
        self._act = act
        self._step = 0

    def read(self, model: str, *names: str) -> Mapping[str, int]:
        return self._registry.read(model, *names)

    def tags(self, model: str, version: int) -> Mapping[str, str]:
        return self._registry.tags(model, version)

    def point(self, *arguments: Any) -> None:
        self._write("point", *arguments)

    def withdraw(self, *arguments: Any) -> None:
        self._write("withdraw", *arguments)

    def tag(self, *arguments: Any) -> None:
        self._write("tag", *arguments)

    def _write(self, method: str, *arguments: Any) -> None:
        self._look()
        self.calls.append(f"{method} {arguments[1]}")
        getattr(self._registry, method)(*arguments)
        self._look()

    def _look(self) -> None:
        step, self._step = self._step, self._step + 1
        self._act(step)


def kill_at(step: int) -> Callable[[int], None]:
    """Before or after the write `step // 2`: even steps are before one, odd ones after it."""

    def act(now: int) -> None:
        if now == step:
            raise Killed

    return act


def killed_and_run_again(
    registry: Registry, run: Callable[[Any], object], step: int, *, last: int, done: str
) -> None:
    """After the `last` step nothing is left to do, which the command says: `done`."""
    with pytest.raises(Killed):
        run(Interrupted(registry, kill_at(step)))
    if step < last:
        run(registry)
    else:
        with pytest.raises(PromotionRefused, match=done):
            run(registry)


@dataclass
class FakeGateways:
    """Implements `Gateways`: each looks at the registry whenever it is asked for its state."""

    registry: Registry
    names: RoleNames = ALIASES
    addresses: tuple[str, ...] = (GATEWAY,)
    model: str = MODEL
    verdict: str = "pass"
    changes: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)
    """By address: what is done to its state before it is shown; a returned NoDocument is shown instead."""
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Mapping[str, Any] | NoDocument] = field(default_factory=dict)
    """By path of a verb."""
    on_get: Callable[[str], None] = lambda _: None

    def get(self, path: str) -> Documents:
        self.on_get(path)
        return {gateway: self._document(gateway, path) for gateway in self.addresses}

    def post(self, path: str, body: Mapping[str, Any], *, timeout_seconds: float = VERB_SECONDS) -> Documents:
        self.posted.append((path, dict(body)))
        return {gateway: self.answers.get(path, {}) for gateway in self.addresses}

    def _document(self, gateway: str, path: str) -> Mapping[str, Any] | NoDocument:
        document = self.state() if path == "/v1/state" else self.compared()
        changed = self.changes[gateway](document) if gateway in self.changes else None
        return changed if isinstance(changed, NoDocument) else document

    def state(self) -> dict[str, Any]:
        named = self.registry.read(self.model, self.names.production, self.names.canary)
        aliases = {
            role: {"name": name, "aspired": named.get(name), "bound": named.get(name)}
            for role, name in ((PRODUCTION, self.names.production), (CANARY, self.names.canary))
        }
        versions = {
            str(number): {"state": "ready", "error": "", "breaker": {"state": "closed", "why": ""}}
            for number in named.values()
        }
        split = {"production": 95.0, "canary": 5.0}
        model = {
            "aliases": aliases,
            "versions": versions,
            "split": split,
            "split_configured": dict(split),
            "verdicts": {CANARY: {"verdict": self.verdict, "why": "its sentence."}},
            "caps": [],
        }
        return {
            "config": {"digest": DIGEST},
            "break_glass": None,
            "state_dir": {"journal": {"head": HEAD}},
            "models": {self.model: model},
        }

    def compared(self) -> dict[str, Any]:
        named = self.registry.read(self.model, self.names.production, self.names.canary)
        arm = {"requests": 1000, "events": 1, "rate": 0.00123456789, "keys": 3}
        faults = {
            "check": "faults",
            "verdict": self.verdict,
            "production": arm,
            "canary": arm,
            "difference": 0.0,
            "interval": [-0.001, 0.001],
            "needed": "3 faulty keys are needed at 5 %.",
        }
        predicts = {"predicts": 480, "fixed_seconds": 0.002, "row_seconds": 0.0001, "seconds": 0.00275}
        cost = {
            "check": "cost",
            "verdict": "pass",
            "rows_per_predict": 7.5,
            "production": predicts,
            "canary": predicts,
            "ratio": 1.0123456789,
            "interval": [0.98, 1.05],
        }
        entry = {
            "production_version": named.get(self.names.production),
            "version": named.get(self.names.canary),
            "checks": [faults, cost],
        }
        return {"models": {self.model: {CANARY: entry}}}


def away(gateway: str) -> Callable[[dict[str, Any]], NoDocument]:
    """What changes its documents where nothing answers at its address."""
    return lambda _: NoDocument(f"no gateway answers at {gateway}", None)


@dataclass
class FakeOperator:
    """Implements `Operator`."""

    confirms: bool = False
    lines: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def report(self, line: str) -> None:
        self.lines.append(line)

    def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.confirms
