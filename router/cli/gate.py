"""`canary-router gate`: whether a version may take traffic, by what is known before anybody asks it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import orjson
from rich.console import Console

from router import __version__
from router.adapters.config.file import load_settings
from router.app.backends import Backends, open_backends
from router.cli.gate_examination import Asked, Examined, HoldoutAsked, examine, named_versions
from router.cli.gate_table import print_report
from router.cli.levers import EXIT_UNREACHABLE, who_says
from router.cli.promotion import open_registry
from router.cli.split import find_model
from router.core.gate_metadata import check_required
from router.core.gate_record import (
    GATE_TAG,
    LONGEST_NAME,
    OVERRIDE_TAG,
    Override,
    Registered,
    gate_tag,
    override_tag,
    signing_key,
)
from router.core.ids import VersionId
from router.core.redaction import redact_line
from router.core.utc import utc
from router.core.verdict import Verdict
from router.errors import (
    FetchFailed,
    FetchRefused,
    IndexUnreachable,
    MovedByOthers,
    RegistryUnavailable,
    RouterError,
)
from router.gate.data_sources import local_path
from router.gate.errors import Arm
from router.gate.mlflow_run import log_run
from router.gate.named_metrics import Metric, metric_of
from router.gate.report import GateReport
from router.processes.small_files import open_at_once
from router.settings import ModelSettings, Settings

EXIT_MISUSE = 2
EXIT_CODES: Mapping[Verdict, int] = {
    Verdict.PASS: 0,
    Verdict.FAIL: 1,
    Verdict.NOT_ENOUGH_DATA: 4,
}
_METRIC, _MAX_LOSS, _HOURS = "roc_auc", 0.005, 24.0
_MOST_KEY_FILE_BYTES = 8192
_LONGEST_LINE = 2000
_FILE_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_TRACKING = "MLFLOW_TRACKING_URI"
_OF_RUNS = ("runs:", "dataset:", "models:")
_OF_EXAMINATION = ("against", "require", "sends", "data", "report", "write_tags")
_OF_DATA = ("target", "metric", "max_loss", "min_gain", "group", "positive", "cut_off", "mlflow_run")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the command takes, by the names of its options; None, or empty, where nothing was said."""

    registry: str | None = None
    version: int | None = None
    against: int | None = None
    require: Sequence[str] = ()
    sends: Sequence[str] = ()
    data: str | None = None
    target: str | None = None
    metric: str | None = None
    max_loss: float | None = None
    min_gain: float | None = None
    group: str | None = None
    positive: str | None = None
    cut_off: float | None = None
    rows_per_request: int = 1
    report: Path | None = None
    write_tags: bool = False
    sign_key_file: Path | None = None
    mlflow_run: bool = False
    override: bool = False
    reason: str | None = None
    hours: float | None = None
    by: str | None = None
    output: str = "table"

    def check(self) -> None:
        """Raises a usage error for what does not go together."""
        if self.override:
            if given := self._given(*_OF_EXAMINATION, *_OF_DATA):
                raise click.UsageError(f"--override examines nothing: it goes without {given}")
            if self.reason is None:
                raise click.UsageError("--override takes a --reason, which is shown and recorded")
            return
        if given := self._given("reason", "hours"):
            raise click.UsageError(f"{given} goes with --override")
        if self.data is None and (given := self._given(*_OF_DATA)):
            raise click.UsageError(f"{given} goes with --data")
        if self.data is not None and self.target is None:
            raise click.UsageError("--data needs --target: the column with the right answers")
        if self.sign_key_file is not None and not self.write_tags:
            raise click.UsageError("--sign-key-file goes with --write-tags, or with --override")
        if self.mlflow_run and not os.environ.get(_TRACKING):
            raise click.UsageError(f"--mlflow-run writes where {_TRACKING} points, and it is not set")
        for name in self.require:
            try:
                check_required(name)
            except ValueError as error:
                raise click.UsageError(f"--require {name}: {error}") from None
        if self.report is not None and not self.report.absolute().parent.is_dir():
            raise click.UsageError(f"--report: there is no directory {self.report.absolute().parent}")

    def _given(self, *names: str) -> str:
        """The first of these options that was given; empty where none was."""
        found = (name for name in names if getattr(self, name) not in (None, (), False))
        return next((f"--{name.replace('_', '-')}" for name in found), "")


def run_gate(config_path: Path, model: str, options: GateOptions) -> int:
    """Returns 0 when the version passes, 1 when it fails, 4 when there is not enough data to say, 2 when it
    could not be examined as asked, and 3 when the registry, or what lies behind it, did not answer."""
    options.check()
    by = who_says(options.reason, options.by)
    if len(by) > LONGEST_NAME:
        raise click.UsageError(f"--by has {len(by)} characters, {LONGEST_NAME} at most")
    key = None if options.sign_key_file is None else read_key(options.sign_key_file)
    settings = load_settings(config_path, os.environ, _flags(options)).settings
    command = _GateCommand(settings, model, find_model(settings, model), options, by, key)
    try:
        return command.override() if options.override else command.judge()
    except RouterError as error:
        _say(str(error))
        away = isinstance(error, RegistryUnavailable | FetchFailed | IndexUnreachable)
        return EXIT_UNREACHABLE if away and not isinstance(error, FetchRefused) else EXIT_MISUSE


def read_key(path: Path) -> bytes:
    """The key in a file that nobody but its owner and group can read. Raises a usage error, never with the
    key."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_KEY_FILE_BYTES)
    except OSError as error:
        raise click.UsageError(f"--sign-key-file {path} can not be read: {error.strerror}") from None
    if mode & 0o007:
        raise click.UsageError(
            f"--sign-key-file {path} can be used by every user of this machine: chmod o= {path}"
        )
    try:
        return signing_key(content)
    except ValueError as error:
        raise click.UsageError(f"--sign-key-file {path}: {error}") from None


class _GateCommand:
    def __init__(
        self,
        settings: Settings,
        model: str,
        wanted: ModelSettings,
        options: GateOptions,
        by: str,
        key: bytes | None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._wanted = wanted
        self._options = options
        self._by = by
        self._key = key

    def judge(self) -> int:
        """Examine the version, show and write what was found; returns the exit code."""
        options = self._options
        metric = metric_of(options.metric or _METRIC) if options.data is not None else None
        with self._data() as path:
            holdout = None if metric is None or path is None else self._holdout(metric, path)
            examined = self._with_backends(lambda backends: self._examine(backends, self._asked(holdout)))
        report, trouble = self._logged(self._report(examined), examined, metric)
        if options.report is not None:
            _write(options.report, report)
        if options.output == "json":
            click.echo(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2).decode())
        else:
            print_report(report, Console())
        if options.write_tags:
            self._tag(report.of.version, GATE_TAG, gate_tag(report.record(), self._key))
        if trouble:
            _say(trouble)
        return EXIT_CODES[report.verdict] or (EXIT_MISUSE if trouble else 0)

    def override(self) -> int:
        """Write the tag that lets the version pass; returns 0."""
        now = time.time()
        of = self._with_backends(self._registered)
        until = now + 3600 * (self._options.hours or _HOURS)
        assert self._options.reason is not None
        override = Override(of, self._options.reason, now, until, self._by)
        self._tag(of.version, OVERRIDE_TAG, override_tag(override, self._key))
        click.echo(f"{of.version} passes without the gate until {utc(until, 'seconds')}")
        return 0

    def _report(self, examined: Examined) -> GateReport:
        return GateReport(
            examined.evidence.of,
            examined.against.number,
            time.time(),
            self._by,
            __version__,
            examined.findings,
            examined.holdout,
        )

    def _logged(
        self, report: GateReport, examined: Examined, metric: Metric | None
    ) -> tuple[GateReport, str]:
        """The report with MLflow's run, where one was asked for, and why there is none."""
        if not self._options.mlflow_run or metric is None:
            return report, ""
        if examined.rows is None or examined.holdout is None:
            return report, "MLflow was not asked: there are no answers to compare"
        try:
            # Opened once as the registry is, which refuses a database that MLflow would migrate.
            open_registry(os.environ[_TRACKING], os.environ[_TRACKING])
            return log_run(report, examined.rows, metric), ""
        except RouterError as error:
            return report, str(error)

    def _asked(self, holdout: HoldoutAsked | None) -> Asked:
        options = self._options
        require = options.require or tuple(self._wanted.gate.require)
        return Asked(self._model, options.version, options.against, require, options.sends, holdout)

    def _holdout(self, metric: Metric, path: Path) -> HoldoutAsked:
        options = self._options
        assert options.data is not None
        assert options.target is not None
        if options.max_loss is None and metric.largest != 1.0:
            raise click.UsageError(
                f"--max-loss: how much worse {metric.name} may become is for you to say, in its own units"
            )
        return HoldoutAsked(
            path,
            options.data,
            metric,
            options.target,
            options.group,
            options.positive,
            options.cut_off,
            _MAX_LOSS if options.max_loss is None else options.max_loss,
            options.min_gain,
            options.rows_per_request,
        )

    @contextmanager
    def _data(self) -> Iterator[Path | None]:
        """Where the hold-out is on this machine. A run's artifact is looked for where the configuration says
        that runs are, unless MLflow's variable says something else."""
        if (source := self._options.data) is None:
            yield None
            return
        with ExitStack() as stack:
            before = dict(os.environ)
            try:
                tracking = os.environ[_TRACKING] = self._settings.registry.addresses(os.environ)[1]
                if source.startswith(_OF_RUNS):  # refuses a database that MLflow would migrate
                    open_registry(tracking, tracking)
                path = stack.enter_context(local_path(source))
            finally:
                os.environ.clear()
                os.environ.update(before)
            yield path

    async def _examine(self, backends: Backends, asked: Asked) -> Examined:
        return await examine(backends, self._settings, self._wanted, asked, _say)

    async def _registered(self, backends: Backends) -> Registered:
        numbers = {Arm.CANDIDATE: self._options.version}
        versions = await named_versions(backends, self._wanted, self._model, numbers)
        return (await backends.gate_source.gate_evidence(versions[Arm.CANDIDATE], ())).of

    def _with_backends(self, act: Callable[[Backends], Awaitable[T]]) -> T:
        async def run() -> T:
            async with open_backends(self._settings, _Silent()) as backends:
                return await act(backends)

        return asyncio.run(run())

    def _tag(self, version: VersionId, name: str, value: str) -> None:
        """Write it with the operator's own credentials, and read it back.

        Raises RegistryError, MovedByOthers.
        """
        registry = open_registry(*self._settings.registry.addresses(os.environ))
        registry.tag(version.model, version.number, name, value)
        if registry.tags(version.model, version.number).get(name) != value:
            raise MovedByOthers(
                f"the tag {name} of {version} is not what was written: somebody else acts, too"
            )
        signed = "signed" if self._key is not None else "not signed"
        _say(f"the tag {name} of v{version.number} is written, {signed}")
        if self._key is None and self._wanted.gate.key_file is not None:
            _say(f"the gateway counts signed tags only: models.{version.model}.gate.key_file names a key")


def _flags(options: GateOptions) -> dict[str, str | None]:
    return {"registry.uri": options.registry, "registry.tracking_uri": options.registry}


def _write(path: Path, report: GateReport) -> None:
    """Whole or not at all: what reads it in CI must not find half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(orjson.dumps(report.to_json(), option=_FILE_OPTIONS))
        part.replace(path)
    except OSError as error:
        raise click.UsageError(f"--report {path} can not be written: {error.strerror}") from None


def _say(line: str) -> None:
    """Beside the report, which has standard output to itself."""
    click.echo(redact_line(line, _LONGEST_LINE), err=True)


class _Silent:
    def record(self, event: object) -> None:
        """Drop it: the report holds everything."""
