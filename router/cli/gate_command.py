"""The options of `canary-router gate`."""

import math
import sys
from pathlib import Path
from typing import Any

import click

from router.cli.options import by_option, config_option, output_option, registry_option
from router.core.redaction import redact_line
from router.errors import ConfigRefused

_EXIT_NOT_EXAMINED = 2
_EXIT_INTERRUPTED = 130
"""As shells say of SIGINT."""
_LONGEST_LINE = 2000
_VERSION = click.IntRange(1, 2**63 - 1)


def _finite(_: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):  # "nan" is a float to click
        raise click.BadParameter("must be a finite number")
    return value


def _names(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Repeated, or in one text with commas."""
    return tuple(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))


@click.command()
@config_option
@registry_option
@click.argument("model")
@click.option(
    "--version", type=_VERSION, metavar="VERSION", help="Which one; default: what the canary's alias names."
)
@click.option(
    "--against",
    type=_VERSION,
    metavar="VERSION",
    help="What it is compared with; default: production's.",
)
@click.option(
    "--require",
    multiple=True,
    callback=_names,
    metavar="NAMES",
    help="What it must have: params.NAME, tags.NAME, metrics.NAME, description, and holdout for a hold-out,"
    " with commas between. Default: gate.require of the configuration.",
)
@click.option(
    "--sends",
    multiple=True,
    callback=_names,
    metavar="COLUMNS",
    help="Columns that every caller sends already, though production does not need them.",
)
@click.option(
    "--data",
    metavar="SOURCE",
    help="The hold-out: a Parquet, CSV or JSON lines file, a directory of them, runs:/RUN_ID/PATH or"
    " dataset:/RUN_ID/NAME.",
)
@click.option("--target", metavar="COLUMN", help="Of the hold-out: what the right answer is.")
@click.option("--metric", metavar="NAME", help="By which both are measured; default: roc_auc.")
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0),
    callback=_finite,
    help="How much worse it may be, in units of the metric; default: 0.005, for metrics between 0 and 1.",
)
@click.option("--min-gain", type=float, callback=_finite, help="How much better it has to be, besides.")
@click.option("--group", metavar="COLUMN", help="Rows that belong together, such as those of one customer.")
@click.option("--positive", metavar="LABEL", help="Which of two labels a score speaks for; default: 1, true.")
@click.option(
    "--cut-off",
    type=float,
    callback=_finite,
    help="Scores from it on are the positive label, for metrics of labels.",
)
@click.option(
    "--rows-per-request",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="As callers send them.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all of it as JSON into this file.",
)
@click.option("--write-tags", is_flag=True, help="Write the verdict into the registry, a tag of the version.")
@click.option(
    "--sign-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sign the tag with the key in this file, 16 to 4096 bytes.",
)
@click.option(
    "--mlflow-run",
    is_flag=True,
    help="Have MLflow evaluate both versions' answers, too, in one run where MLFLOW_TRACKING_URI points.",
)
@click.option(
    "--override",
    is_flag=True,
    help="Examine nothing: write a tag that lets the version pass without the gate, for some hours.",
)
@click.option("--reason", help="Of --override, in one line: it is shown and recorded.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True, max=720),
    callback=_finite,
    help="How long --override holds; default: 24.",
)
@by_option
@output_option
def gate(config_path: Path, model: str, **options: Any) -> None:
    """Compare MODEL's canary with its production before it takes traffic.

    Signature, example, environment and metadata; with --data a metric on a hold-out. The exit code is 0 where
    it passes, 1 where it fails, 4 where there is not enough data to say.
    """
    sys.exit(_exit_code(config_path, model, options))


def _exit_code(config_path: Path, model: str, options: dict[str, Any]) -> int:
    """Of whatever happens: Python ends with 1 on an error, which would say that the version fails."""
    try:
        from router.cli.gate import GateOptions, run_gate

        return run_gate(config_path, model, GateOptions(**options))
    except (click.ClickException, ConfigRefused):
        raise  # misuse, which is shown as that of every command
    except KeyboardInterrupt:
        click.echo("interrupted: this is no verdict", err=True)
        return _EXIT_INTERRUPTED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's metric may even end the process
        what = redact_line(f"{type(error).__name__}: {error}", _LONGEST_LINE)
        click.echo(f"this is no verdict: {what}", err=True)
        return _EXIT_NOT_EXAMINED
