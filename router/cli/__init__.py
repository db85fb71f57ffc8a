"""The command line. Each command imports what it needs when it runs, so that `status` is quick."""

import sys
from pathlib import Path

import click

from router import __version__
from router.errors import ConfigRefused

EXIT_USAGE = 2

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="CANARY_ROUTER_CONFIG",
    default=Path("config/router.yaml"),
    show_default=True,
    help="The configuration file.",
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
urls_option = click.option(
    "--url",
    "urls",
    multiple=True,
    metavar="URL",
    help="A gateway; repeat it for several. Default: all that the configuration knows.",
)
reason_option = click.option("--reason", required=True, help="Why, in one line: it is shown and recorded.")
by_option = click.option("--by", help="Who you are; default: the name of your user.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="canary-router")
def root() -> None:
    """Serve two aliases of an MLflow registered model side by side, split by request key."""
    if sys.platform == "win32":
        raise click.ClickException("canary-router runs on Linux and macOS; on Windows, use WSL")


@root.command()
@config_option
@click.option("--check", is_flag=True, help="Check the configuration and exit.")
@click.option("--listen", metavar="HOST:PORT", help="Overrides server.listen.")
@click.option("--admin", metavar="HOST:PORT", help="Overrides server.admin.")
def serve(config_path: Path, *, check: bool, listen: str | None, admin: str | None) -> None:
    """Run the gateway."""
    from router.cli.serve import check_config, run_gateway

    flags = {"server.listen": listen, "server.admin": admin}
    given = {path: value for path, value in flags.items() if value is not None}
    sys.exit(check_config(config_path, given) if check else run_gateway(config_path, given))


@root.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="Where the demo's registry lives.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=5),
    envvar="DEMO_SECONDS",
    help="Take every step of the rollout in about this long, then stop.",
)
@click.option(
    "--against",
    metavar="URL",
    help="Only send traffic, to a gateway that runs and is configured for the demo's models; they are"
    " registered first where they are missing.",
)
@click.option("--registry", metavar="URI", help="With --against: the registry; default MLFLOW_TRACKING_URI.")
def demo(directory: Path, seconds: float | None, against: str | None, registry: str | None) -> None:
    """Train models, register them, and watch a canary under real traffic."""
    if against:
        from router.demo.traffic_only import send

        sys.exit(send(against, registry, seconds))
    if registry:
        raise click.UsageError("--registry goes with --against")
    from router.demo.story import run

    sys.exit(run(directory, seconds))


@root.command()
@config_option
def health(config_path: Path) -> None:
    """Ask this machine's gateway whether it is alive, where the configuration says that it listens."""
    from router.cli.health import check_health

    sys.exit(check_health(config_path))


@root.command()
@config_option
@click.option("--url", help="The gateway; default: the admin address of the configuration.")
@click.option("-w", "--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@output_option
def status(config_path: Path, url: str | None, *, watch: bool, output: str) -> None:
    """Show what a running gateway serves, and what is wrong."""
    from router.cli.status import show_status

    sys.exit(show_status(config_path, url, watch=watch, output=output))


@root.command()
@config_option
@click.option("--url", help="The gateway; default: the admin address of the configuration.")
@click.argument("model", required=False)
@output_option
def compare(config_path: Path, url: str | None, model: str | None, output: str) -> None:
    """Show how each canary, or MODEL's, does against production, and whether that is enough to judge it."""
    from router.cli.compare import show_comparison

    sys.exit(show_comparison(config_path, url, model, output))


@root.command()
@config_option
@click.argument("model")
@click.argument("percent", type=str)
def split(config_path: Path, model: str, percent: str) -> None:
    """Give PERCENT of MODEL's keys to the canary, and the rest to production, in the configuration."""
    from router.cli.split import set_share

    sys.exit(set_share(config_path, model, percent))


@root.command()
@config_option
@urls_option
@click.argument("model")
@reason_option
@click.option("--to", type=click.FloatRange(0, 100), default=0.0, show_default=True, metavar="PERCENT")
@click.option("--alias", help="Which canary; default: all but production.")
@click.option("--version", type=click.IntRange(1), help="Which version; default: the one that serves.")
@click.option("--all-versions", is_flag=True, help="Whatever comes, too, until this is resumed.")
@by_option
@output_option
def abort(
    config_path: Path,
    urls: tuple[str, ...],
    model: str,
    reason: str,
    to: float,
    alias: str | None,
    version: int | None,
    *,
    all_versions: bool,
    by: str | None,
    output: str,
) -> None:
    """Cap what MODEL's canary gets, at once; it stays loaded, and production has the rest."""
    from router.cli.levers import abort_canary

    if all_versions and version is not None:
        raise click.UsageError("--version goes without --all-versions")
    code = abort_canary(
        config_path,
        urls,
        model=model,
        alias=alias,
        version=version,
        to=to,
        all_versions=all_versions,
        reason=reason,
        by=by,
        output=output,
    )
    sys.exit(code)


@root.command()
@config_option
@urls_option
@click.argument("model", required=False)
@reason_option
@click.option("--alias", help="Which canary; default: all that are capped.")
@click.option("--version", type=click.IntRange(1), help="Which version; default: all that are capped.")
@click.option("--all", "everything", is_flag=True, help="End break-glass instead, for all models.")
@by_option
@output_option
def resume(
    config_path: Path,
    urls: tuple[str, ...],
    model: str | None,
    reason: str,
    alias: str | None,
    version: int | None,
    *,
    everything: bool,
    by: str | None,
    output: str,
) -> None:
    """Lift the caps of MODEL: its canary has the configured share again, and no more than that."""
    from router.cli.levers import resume_canary

    code = resume_canary(
        config_path,
        urls,
        model=model,
        alias=alias,
        version=version,
        everything=everything,
        reason=reason,
        by=by,
        output=output,
    )
    sys.exit(code)


@root.command()
@config_option
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="The gateway's state directory; default: that of the configuration.",
)
@click.option("--reason", help="Why, in one line: it is shown and recorded.")
@by_option
def off(config_path: Path, state_dir: Path | None, reason: str | None, by: str | None) -> None:
    """Turn every canary off by a file, with a broken configuration too: no registry, no token, no network."""
    from router.cli.off import turn_off

    sys.exit(turn_off(config_path, state_dir, reason=reason, by=by))


@root.command()
@config_option
@click.argument("model")
@click.argument("key")
@output_option
def route(config_path: Path, model: str, key: str, output: str) -> None:
    """Explain which alias of MODEL gets KEY, from the configuration alone."""
    from router.cli.split import explain_key

    sys.exit(explain_key(config_path, model, key, output))


@root.command()
@config_option
@click.argument("model")
@output_option
def check(config_path: Path, model: str, output: str) -> None:
    """Bring every version that MODEL's aliases name to READY, as the gateway would, and report on each."""
    from router.cli.check import check_model

    sys.exit(check_model(config_path, model, output))


def main() -> None:
    """The console script: configuration errors are printed line by line, with exit code 2."""
    try:
        root(prog_name="canary-router")
    except ConfigRefused as refused:
        for problem in refused.problems:
            click.echo(problem, err=True)
        sys.exit(EXIT_USAGE)
