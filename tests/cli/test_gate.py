"""`canary-router gate`: what it finds, what it writes, and what it refuses with which exit code."""

import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import orjson
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from router.cli import root
from router.core.gate import GateEvidence, GateRules, judge
from router.core.gate_record import GATE_TAG, OVERRIDE_TAG, Registered, read_gate_record
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.scores import ScoreSpec
from router.core.verdict import Verdict
from router.errors import (
    EnvironmentRefused,
    FetchFailed,
    LoadFailed,
    ModelUnknown,
    NoRoom,
    RegistryUnavailable,
    RouterError,
)
from router.protocol.messages import LoadSpec, VersionInfo
from tests.gate.fakes import FakeWorker, Predict
from tests.promotion.fakes import MODEL, FakeRegistry
from tests.support.document_blocks import ROOT
from tests.support.sample_events import environment_of

ROWS = 1600
KEY = b"a key for tests, 24 bytes"
SCHEMA = json.loads((ROOT / "config" / "gate-report.schema.json").read_text(encoding="utf-8"))
BY_A: Predict = lambda rows: [row["a"] / ROWS for row in rows]  # noqa: E731
"""Nearly perfect: the target is 1 for large ones."""
BY_B: Predict = lambda rows: [row["b"] / ROWS for row in rows]  # noqa: E731
"""Much worse: `b` says little."""


@dataclass
class World:
    """A registry, and versions that answer what a test says."""

    directory: Path
    predicts: dict[int, Predict] = field(default_factory=lambda: {1: BY_A, 2: BY_A, 3: BY_B})
    aliases: dict[str, int] = field(default_factory=lambda: {PRODUCTION: 1, CANARY: 2})
    missing: tuple[str, ...] = ()
    required: Sequence[str] = ()
    refuses: dict[int, RouterError] = field(default_factory=dict)
    """By version, what its load raises."""
    poll_error: RouterError | None = None
    fetch_error: RouterError | None = None
    environment_error: RouterError | None = None
    scores: tuple[ScoreSpec, ...] = (ScoreSpec(),)
    columns: tuple[str, ...] = ("a", "b")
    specs: list[LoadSpec] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = self.gate_source = self.fetcher = self.loader = self.environments = self

    async def poll(self, model: str, aliases: Mapping[str, str]) -> Mapping[str, VersionId]:
        if self.poll_error is not None:
            raise self.poll_error
        return {role: VersionId(model, number) for role, number in self.aliases.items()}

    async def gate_evidence(self, version: VersionId, required: Sequence[str]) -> GateEvidence:
        self.required = required
        return GateEvidence(Registered(version, "r-1", None, "0123456789ab"), None, None, self.missing)

    async def fetch(self, version: VersionId, *, deadline_seconds: float) -> str:
        if self.fetch_error is not None:
            raise self.fetch_error
        files = self.directory / str(version.number)
        files.mkdir(exist_ok=True)
        inputs = json.dumps([{"type": "double", "name": name, "required": True} for name in self.columns])
        (files / "MLmodel").write_text(yaml.safe_dump({"signature": {"inputs": inputs}}))
        example = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.0, 2.0]]}}
        (files / "serving_input_example.json").write_bytes(orjson.dumps(example))
        return str(files)

    async def prepare(self, version: VersionId, directory: str) -> Any:
        if self.environment_error is not None and version.number == self.aliases[CANARY]:
            raise self.environment_error
        return SimpleNamespace(about=environment_of(), note="", loader=self)

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Any:
        self.specs.append(spec)
        number = spec.version.number
        if number in self.refuses:
            raise self.refuses[number]
        worker: Any = FakeWorker(self.predicts[number])
        worker.info = VersionInfo("", "sklearn", True, True, {}, self.scores, suggested_scores=self.scores)

        async def close() -> None:
            self.closed.append(number)

        worker.close = close
        return worker


@dataclass
class Gate:
    """The command beside a world and a registry."""

    world: World
    registry: FakeRegistry
    config: Path

    def __call__(self, *arguments: str) -> Result:
        given = [MODEL, "-c", str(self.config), "--by", "ci", *arguments]
        return CliRunner().invoke(root, ["gate", *given], catch_exceptions=False)

    def tag(self, version: int, name: str = GATE_TAG) -> str:
        return self.registry.tags(MODEL, version)[name]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    world, registry = World(tmp_path), FakeRegistry()

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[World]:
        yield world

    module = import_module("router.cli.gate")
    monkeypatch.setattr(module, "open_backends", opened)
    monkeypatch.setattr(module, "open_registry", lambda *_: registry)
    config = tmp_path / "router.yaml"
    config.write_text(f"models: {{{MODEL}: {{gate: {{require: [tags.git_commit]}}}}}}\n")
    return Gate(world, registry, config)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., str]:
    def write(count: int = ROWS) -> str:
        path = tmp_path / "holdout.csv"
        numbers = [(n * 37) % count for n in range(count)]
        table = {"a": range(count), "b": numbers, "y": [int(n > count / 2) for n in range(count)]}
        pd.DataFrame(table).to_csv(path, index=False)
        return str(path)

    return write


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    return path


def report_of(done: Result) -> dict[str, Any]:
    """What it printed with `-o json`, which is what the schema says."""
    document: dict[str, Any] = orjson.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    return document


def outcomes(report: Mapping[str, Any]) -> dict[str, str]:
    return {check["check"]: check["outcome"] for check in report["checks"]}


def why(report: Mapping[str, Any], name: str) -> str:
    return next(str(check["why"]) for check in report["checks"] if check["check"] == name)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_candidate_that_is_as_good_passes_and_the_report_says_by_what(
    gate: Gate, rows: Callable[..., str], tmp_path: Path
) -> None:
    data = rows()
    done = gate("--data", data, "--target", "y", "--report", str(tmp_path / "gate.json"), "-o", "json")

    assert done.exit_code == 0, done.output
    report = report_of(done)
    assert json.loads((tmp_path / "gate.json").read_text()) == report
    assert (report["version"], report["against"], report["verdict"], report["by"]) == (2, 1, "pass", "ci")
    names = ["metadata", "signature", "environment", "example", "answers", "holdout"]
    assert outcomes(report) == dict.fromkeys(names, "pass")
    holdout = report["holdout"]
    assert (holdout["metric"], holdout["rows"], holdout["max_loss"]) == ("roc_auc", ROWS, 0.005)
    assert holdout["candidate"] == holdout["production"] == 1.0
    assert gate.world.closed == [2, 1]
    assert gate.registry.tags(MODEL, 2) == {}, "nothing is written unless that is asked for"


def test_a_candidate_that_is_worse_fails_with_the_figures(gate: Gate, rows: Callable[..., str]) -> None:
    done = gate("--data", rows(), "--target", "y", "--version", "3", "-o", "json")

    assert done.exit_code == 1
    report = report_of(done)
    assert (report["verdict"], outcomes(report)["holdout"]) == ("fail", "fail")
    assert report["why"].startswith("worse: a loss of ")
    assert report["holdout"]["difference"]["high"] < -0.005


def test_few_rows_are_not_enough_data_and_it_says_how_many_would_be(
    gate: Gate, rows: Callable[..., str]
) -> None:
    gate.world.predicts[2] = lambda rows: [(row["a"] + row["b"] / 4) for row in rows]
    done = gate("--data", rows(20), "--target", "y", "-o", "json")

    assert done.exit_code == 4, done.output
    report = report_of(done)
    assert report["verdict"] == "not_enough_data"


def test_the_table_shows_every_check_and_ends_with_the_verdict(gate: Gate, rows: Callable[..., str]) -> None:
    done = gate("--data", rows(), "--target", "y", "--version", "3")

    for shown in (
        "signature",
        "example",
        "✔ pass",
        "✘ FAIL",
        "roc_auc, more is better: 1,600 rows",
        "DeLong",
    ):
        assert shown in done.stdout
    assert done.stdout.splitlines()[-1].startswith("sentiment v3: ✘ FAIL: ")


def test_without_data_the_instant_checks_decide(gate: Gate) -> None:
    done = gate("-o", "json")

    assert done.exit_code == 0
    report = report_of(done)
    assert (report["holdout"], report["why"]) == (
        None,
        "nothing speaks against it; no hold-out was asked about",
    )
    assert "holdout" not in outcomes(report)


def test_where_a_hold_out_is_required_there_is_not_enough_data_without_one(
    gate: Gate, rows: Callable[..., str]
) -> None:
    gate.config.write_text(f"models: {{{MODEL}: {{gate: {{require: [holdout, description]}}}}}}\n")
    done = gate("-o", "json", "--write-tags")

    assert done.exit_code == 4
    report = report_of(done)
    assert outcomes(report)["metadata"] == "pass"
    assert why(report, "holdout") == report["why"] == "a hold-out is required, and --data names none"
    assert gate.world.required == ("description",), "the registry is not asked for a hold-out"
    assert read_gate_record(gate.tag(2)).verdict is Verdict.NOT_ENOUGH_DATA
    assert gate("--data", rows(), "--target", "y").exit_code == 0
    assert gate("--require", "description").exit_code == 0, "who says what is required says all of it"


# ---- tags


def test_the_tag_lets_the_version_pass_at_a_gateway_with_the_same_key(
    gate: Gate, rows: Callable[..., str], key_file: Path
) -> None:
    done = gate("--data", rows(), "--target", "y", "--write-tags", "--sign-key-file", str(key_file))

    assert done.exit_code == 0, done.output
    tag = gate.tag(2)
    record = read_gate_record(tag)
    assert (record.verdict, record.against, record.by) == (Verdict.PASS, 1, "ci")
    assert record.figures["rows"] == ROWS
    assert record.data is not None
    assert len(record.data) == 64
    evidence = GateEvidence(record.of, tag, None)
    assert judge(evidence, GateRules(3600.0, KEY), record.at).passes
    assert not judge(evidence, GateRules(3600.0, b"another key of 24 bytes!"), record.at).passes
    assert "is written, signed" in done.stderr


def test_a_failed_verdict_is_written_too_so_that_an_older_pass_does_not_stand(
    gate: Gate, rows: Callable[..., str]
) -> None:
    gate("--version", "3", "--write-tags")
    assert read_gate_record(gate.tag(3)).verdict is Verdict.PASS
    gate("--version", "3", "--write-tags", "--data", rows(), "--target", "y")

    record = read_gate_record(gate.tag(3))
    assert record.verdict is Verdict.FAIL
    assert record.figures["checks"]["holdout"] == "fail"


def test_who_forgets_to_sign_what_the_gateway_wants_signed_is_told(gate: Gate) -> None:
    gate.config.write_text(f"models: {{{MODEL}: {{gate: {{key_file: /etc/key}}}}}}\n")
    done = gate("--write-tags")

    assert "the gateway counts signed tags only: models.sentiment.gate.key_file names a key" in done.stderr


def test_an_override_is_written_without_any_examination(gate: Gate, key_file: Path) -> None:
    reason = "production is worse than nothing"
    done = gate("--override", "--reason", reason, "--hours", "2", "--sign-key-file", str(key_file))

    assert done.exit_code == 0, done.output
    assert "sentiment v2 passes without the gate until 20" in done.stdout
    assert gate.world.specs == [], "no version is loaded"
    of = Registered(VersionId(MODEL, 2), "r-1", None, "0123456789ab")
    evidence = GateEvidence(of, None, gate.tag(2, OVERRIDE_TAG))
    judgement = judge(evidence, GateRules(key=KEY), pd.Timestamp.now("UTC").timestamp())
    assert judgement.override is not None
    assert (judgement.override.reason, judgement.override.by) == (reason, "ci")
    assert judgement.override.until - judgement.override.at == 7200.0


def test_an_override_needs_no_production(gate: Gate) -> None:
    gate.world.aliases = {CANARY: 2}

    assert gate("--override", "--reason", "there is nothing to compare with").exit_code == 0


# ---- what the candidate does wrong


def test_metadata_is_what_the_configuration_requires_unless_somebody_says_more(gate: Gate) -> None:
    gate.world.missing = ("tags.git_commit",)
    done = gate("-o", "json")
    assert gate.world.required == ("tags.git_commit",)
    assert (done.exit_code, why(report_of(done), "metadata")) == (
        1,
        "the registry has no tags.git_commit of it",
    )

    gate("--require", "params.hash, description", "--require", "metrics.auc")
    assert gate.world.required == ("params.hash", "description", "metrics.auc")


def test_a_candidate_that_does_not_load_fails(gate: Gate) -> None:
    gate.world.refuses[2] = LoadFailed("ValueError: the weights are for another architecture", phase="load")
    done = gate("-o", "json")

    assert done.exit_code == 1
    report = report_of(done)
    assert (
        why(report, "load")
        == "it does not become READY: ValueError: the weights are for another architecture"
    )
    assert gate.world.closed == [1]


def test_an_environment_that_can_not_be_made_fails_and_one_that_can_is_described(gate: Gate) -> None:
    gate.config.write_text(f"models: {{{MODEL}: {{environment: own}}}}\n")
    made = report_of(gate("-o", "json"))
    gate.world.environment_error = EnvironmentRefused("requirements.txt line 3: has the option --index-url")
    refused = report_of(gate("-o", "json"))

    assert why(made, "environment") == "what it requires is built: Python 3.11.7, 601 MiB"
    assert "scikit-learn 1.5.2, the gateway has 1.7.1" in str(made["checks"])
    assert outcomes(refused)["environment"] == "fail"
    assert "option --index-url" in why(refused, "environment")


@pytest.mark.parametrize(
    ("predict", "said"),
    [
        (lambda rows: ["no" for _ in rows], "and production a number per row"),
        (lambda rows: [float(row["a"] > 1200) * 2e308 for row in rows], "which is no finite number"),
    ],
    ids=["texts", "infinite"],
)
def test_a_candidate_whose_answers_can_not_be_compared_fails(
    gate: Gate, rows: Callable[..., str], predict: Predict, said: str
) -> None:
    gate.world.predicts[2] = predict
    done = gate("--data", rows(), "--target", "y", "-o", "json")

    assert done.exit_code == 1, done.output
    assert said in report_of(done)["why"]


def test_a_candidate_that_fails_the_rows_of_one_label_fails_and_is_no_misuse(
    gate: Gate, rows: Callable[..., str]
) -> None:
    def fails_on_small_ones(rows: Any) -> Any:
        if any(ROWS / 4 < row["a"] <= ROWS / 2 or row["a"] < ROWS / 4 for row in rows):
            raise ValueError("too small")
        return BY_A(rows)

    gate.world.predicts[2] = fails_on_small_ones
    done = gate("--data", rows(), "--target", "y", "-o", "json")

    assert done.exit_code == 1, done.output
    report = report_of(done)
    assert outcomes(report)["answers"] == "fail"


def test_what_a_version_names_itself_moves_no_cursor(gate: Gate) -> None:
    """Whoever logs a version chooses what it raises, and how its columns are called."""
    words = "\x1b[2Jpassed\n sqlite://ann:hidden@host/" + "x" * 5000
    gate.world.refuses[2] = LoadFailed(words, phase="load")
    table, document = gate().stdout, report_of(gate("-o", "json"))

    assert "\x1b[2J" not in table
    assert "\x1b" not in why(document, "load")
    assert "hidden" not in table + str(document)
    assert len(why(document, "load")) <= 2000


# ---- what nobody can judge


def broken(**how: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in how.items():
            setattr(world, name, value)

    return change


LOST = {1: LoadFailed("it needs a library", phase="load")}


@pytest.mark.parametrize(
    ("change", "arguments", "code", "said"),
    [
        (
            broken(aliases={PRODUCTION: 1}),
            [],
            2,
            "@canary names no version of sentiment: --version says which",
        ),
        (
            broken(aliases={CANARY: 1}),
            [],
            2,
            "@production names no version of sentiment: --against says which",
        ),
        (broken(aliases={PRODUCTION: 2, CANARY: 2}), [], 2, "sentiment v2 would be compared with itself"),
        (broken(), ["--version", "1"], 2, "sentiment v1 would be compared with itself"),
        (
            broken(refuses=LOST),
            [],
            2,
            "sentiment v1, to compare with, does not become READY: it needs a library",
        ),
        (broken(poll_error=ModelUnknown("there is no such model")), [], 2, "there is no such model"),
        (broken(poll_error=RegistryUnavailable("nobody answers")), [], 3, "nobody answers"),
        (broken(fetch_error=FetchFailed("the store is away")), [], 3, "the store is away"),
        (broken(refuses={2: NoRoom("it would not fit")}), [], 2, "it would not fit"),
        (
            broken(columns=("a", "c")),
            ["--data"],
            2,
            "sentiment v2 requires the columns c, which the data does not",
        ),
        (broken(scores=()), ["--data"], 2, "models.sentiment.scores names it as output"),
        (
            broken(predicts={1: lambda rows: [None for _ in rows], 2: BY_A}),
            ["--data"],
            2,
            "the production answered",
        ),
    ],
)
def test_what_keeps_anybody_from_judging_is_one_sentence_and_no_verdict(
    gate: Gate, rows: Callable[..., str], change: Any, arguments: list[str], code: int, said: str
) -> None:
    change(gate.world)
    if "--data" in arguments:
        arguments = ["--data", rows(), "--target", "y"]
    done = gate(*arguments, "--write-tags")

    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert done.stdout == ""
    assert gate.registry.tags(MODEL, 2) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "y"], "--target goes with --data"),
        (["--metric", "f1"], "--metric goes with --data"),
        (["--data", "x.csv"], "--data needs --target"),
        (["--data", "absent.csv", "--target", "y"], "there is no file"),
        (["--data", "ROWS", "--target", "z"], "has no column z, which is to be the target"),
        (["--data", "ROWS", "--target", "y", "--metric", "roc_aux"], "did you mean roc_auc?"),
        (["--data", "ROWS", "--target", "a", "--metric", "squared_error"], "--max-loss: how much worse"),
        (["--data", "ROWS", "--target", "y", "--max-loss", "nan"], "must be a finite number"),
        (["--data", "ROWS", "--target", "y", "--max-loss", "-1"], "'--max-loss'"),
        (["--data", "ROWS", "--target", "y", "--group", "z"], "has no column z, which is to be the group"),
        (
            ["--data", "ROWS", "--target", "y", "--mlflow-run"],
            "MLFLOW_TRACKING_URI points, and it is not set",
        ),
        (["--require", "git_commit"], "--require git_commit: must be params.NAME"),
        (["--write-tags", "--sign-key-file", "key"], "can not be read: No such file"),
        (["--report", "/nowhere/at/all/gate.json"], "--report: there is no directory /nowhere/at/all"),
        (["--override"], "--override takes a --reason"),
        (["--override", "--reason", "a\nb"], "--reason "),
        (
            ["--override", "--reason", "r", "--data", "x"],
            "--override examines nothing: it goes without --data",
        ),
        (["--reason", "r"], "--reason goes with --override"),
        (["--hours", "3"], "--hours goes with --override"),
        (["--by", "x" * 101], "--by "),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_misuse_is_refused_with_a_sentence(
    gate: Gate, rows: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    given = [rows() if argument == "ROWS" else argument for argument in arguments]
    done = gate(*given)

    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (
            OSError(28, "No space left on device"),
            2,
            "this is no verdict: OSError: [Errno 28] No",
        ),
        (ValueError("sqlite://ann:hidden@host/\nb"), 2, "this is no verdict: ValueError: "),
        (SystemExit(0), 2, "this is no verdict: SystemExit: 0"),
        (KeyboardInterrupt(), 130, "interrupted: this is no verdict"),
    ],
    ids=["full disk", "unforeseen", "a module that ends the process", "Ctrl-C"],
)
def test_what_nobody_foresaw_is_no_verdict(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, said: str
) -> None:
    """1 would say that the version fails, and 0 that it passes."""

    async def raises(*_: object) -> Any:
        raise raised

    monkeypatch.setattr(import_module("router.cli.gate"), "examine", raises)
    done = gate("--write-tags")

    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "hidden" not in done.output
    assert len(done.stderr.splitlines()) == 1
    assert (done.stdout, gate.registry.tags(MODEL, 2)) == ("", {})


def test_a_model_that_is_not_configured_is_refused_with_those_that_are(gate: Gate) -> None:
    done = CliRunner().invoke(root, ["gate", "sentimant", "-c", str(gate.config)])

    assert (done.exit_code, "there are: sentiment" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (KEY, 0o604, "can be used by every user of this machine: chmod o="),
        (b"\n", 0o600, "it must hold 16 to 4096 bytes, not 0"),
        (b"short", 0o600, "it must hold 16 to 4096 bytes, not 5"),
        (b"x" * 9000, 0o600, "it must hold 16 to 4096 bytes"),
    ],
    ids=["readable by others", "empty", "short", "long"],
)
def test_a_key_that_is_no_secret_is_refused_without_being_shown(
    gate: Gate, tmp_path: Path, content: bytes, mode: int, said: str
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    done = gate("--write-tags", "--sign-key-file", str(path))

    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not content.strip() or content.strip().decode() not in done.output
    assert gate.world.specs == []


def test_a_report_that_can_not_be_written_is_no_pass(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "gate.json").mkdir()
    (tmp_path / ".gate.json.part").mkdir()
    done = gate("--report", str(tmp_path / "gate.json"))

    assert done.exit_code == 2, done.output
