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
@click.option("--url", help="The gateway; default: the admin address of the configuration.")
@click.argument("model")
@click.argument("percent", type=str)
@click.option("--strict", is_flag=True, help="Exit with 1 when something speaks against it.")
@output_option
def plan(config_path: Path, url: str | None, model: str, percent: str, *, strict: bool, output: str) -> None:
    """Show what it would do to give PERCENT of MODEL's keys to the canary; changes nothing."""
    from router.cli.plan import show_plan

    sys.exit(show_plan(config_path, url, model, percent, output, strict=strict))


@root.command()
@config_option
@click.option("--url", help="The gateway that says beforehand what it would do; default: the admin address.")
@click.argument("model")
@click.argument("percent", type=str)
@click.option(
    "--strict", is_flag=True, help="Change nothing when something speaks against it, or no gateway answers."
)
@click.option("--print", "only_print", is_flag=True, help="Write the changed file to standard output only.")
def split(
    config_path: Path, url: str | None, model: str, percent: str, *, strict: bool, only_print: bool
) -> None:
    """Give PERCENT of MODEL's keys to the canary, and the rest to production, in the configuration."""
    from router.cli.split import set_share

    sys.exit(set_share(config_path, url, model, percent, strict=strict, only_print=only_print))


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
