"""The command line. Each command imports what it needs when it runs, so that `status` is quick."""

import sys
from pathlib import Path

import click

from router import __version__
from router.cli.gate_command import gate
from router.cli.options import (
    by_option,
    config_option,
    files_option,
    no_wait_option,
    output_option,
    reason_option,
    registry_option,
    urls_option,
    wait_option,
)
from router.cli.render_command import render
from router.errors import ConfigRefused

EXIT_USAGE = 2


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
    help="Where the demo's registry lives; default .demo, or .demo-environments.",
)
@click.option(
    "--environments",
    is_flag=True,
    help="Serve two versions that different releases of scikit-learn pickled, each in its own Python"
    " environment, and stop. Takes the extra `environments`.",
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
def demo(
    directory: Path | None,
    *,
    environments: bool,
    seconds: float | None,
    against: str | None,
    registry: str | None,
) -> None:
    """Train models, register them, and watch a canary under real traffic."""
    if against and environments:
        raise click.UsageError("--environments starts a gateway of its own, so it does not go with --against")
    if against:
        from router.demo.traffic_only import send

        sys.exit(send(against, registry, seconds))
    if registry:
        raise click.UsageError("--registry goes with --against")
    from router.demo.story import run
    from router.demo.workspace import OWN_ENVIRONMENTS, OWN_STORY_SECONDS

    if environments:
        at = directory or Path(".demo-environments")
        sys.exit(run(at, seconds or OWN_STORY_SECONDS, OWN_ENVIRONMENTS))
    sys.exit(run(directory or Path(".demo"), seconds))


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
@output_option
def why(config_path: Path, url: str | None, model: str, output: str) -> None:
    """Show what the failed requests of MODEL's canary have in common against the schema; never a value."""
    from router.cli.why import show_why

    sys.exit(show_why(config_path, url, model, output))


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
@urls_option
@click.argument("model")
@reason_option
@click.option(
    "--to",
    type=click.FloatRange(0, 100),
    default=0.0,
    show_default=True,
    metavar="PERCENT",
    help="What is left to it at most.",
)
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
@click.option("--at", metavar="TIME", help="Who got it then, such as 2026-11-20T14:32Z, by the journal.")
@files_option
@output_option
def route(
    config_path: Path, model: str, key: str, at: str | None, files: tuple[Path, ...], output: str
) -> None:
    """Explain which alias of MODEL gets KEY, from the configuration alone; or which one got it at a time."""
    if at is None:
        if files:
            raise click.UsageError("--file goes with --at")
        from router.cli.split import explain_key

        sys.exit(explain_key(config_path, model, key, output))
    from router.cli.past_route import show_past_route

    sys.exit(show_past_route(config_path, model, key, at, output, files))


@root.command()
@config_option
@click.argument("model")
@click.option(
    "--since",
    metavar="TIME",
    default="24h",
    show_default=True,
    help="90s, 30m, 2h or 7d ago, or a time such as 2026-11-20T14:32Z.",
)
@files_option
@output_option
def history(config_path: Path, model: str, since: str, files: tuple[Path, ...], output: str) -> None:
    """Show what MODEL's aliases served, who changed it, why, and on what evidence."""
    from router.cli.history import show_history

    sys.exit(show_history(config_path, model, since, output, files))


@root.group()
def journal() -> None:
    """The record of what this machine's gateway served."""


@journal.command()
@config_option
@click.argument("files", metavar="[FILE]...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--head",
    "heads",
    metavar="DIGEST",
    multiple=True,
    help="Digest of a line that must be there, or the first 12 digits of it or more; repeatable.",
)
def verify(config_path: Path, files: tuple[Path, ...], heads: tuple[str, ...]) -> None:
    """Check that no line of the journal, or of these files in this order, was changed or is missing."""
    from router.cli.journal_verify import verify_chain

    sys.exit(verify_chain(config_path, files, heads))


@root.command()
@config_option
@click.argument("model")
@output_option
def check(config_path: Path, model: str, output: str) -> None:
    """Bring every version that MODEL's aliases name to READY, as the gateway would, and report on each."""
    from router.cli.check import check_model

    sys.exit(check_model(config_path, model, output))


@root.command()
@config_option
@click.option(
    "--build", is_flag=True, help="Prepare those of all versions that are served, last good or previous."
)
@click.option(
    "--prune", is_flag=True, help="Remove those that no gateway uses and no last good version needs."
)
@output_option
def environments(config_path: Path, *, build: bool, prune: bool, output: str) -> None:
    """List the Python environments that are kept for versions of models with `environment: own`."""
    from router.cli.environments import build_environments, prune_environments, show_environments

    if build and prune:
        raise click.UsageError("--build goes without --prune")
    work = build_environments if build else prune_environments if prune else show_environments
    sys.exit(work(config_path, output))


@root.command()
@config_option
@urls_option
@registry_option
@reason_option
@by_option
@click.option("--keep-canary", is_flag=True, help="Leave the canary's alias on the version, too.")
@click.option("--force", is_flag=True, help="Go on in spite of FAIL, gate, cap, open breaker or break-glass.")
@click.option("--yes", is_flag=True, help="Do not ask where there is not enough data to judge the canary.")
@no_wait_option
@wait_option
@click.argument("model")
def promote(
    config_path: Path,
    urls: tuple[str, ...],
    registry: str | None,
    reason: str,
    by: str | None,
    model: str,
    *,
    keep_canary: bool,
    force: bool,
    yes: bool,
    no_wait: bool,
    wait_seconds: float,
) -> None:
    """Make MODEL's canary production, in the registry, and wait until every gateway serves it."""
    from router.cli.promotion import MoveOptions, promote_canary

    options = MoveOptions.of(config_path, urls, registry, by, reason, None if no_wait else wait_seconds)
    sys.exit(promote_canary(options, model, force=force, keep_canary=keep_canary, yes=yes))


@root.command()
@config_option
@urls_option
@registry_option
@reason_option
@by_option
@click.option(
    "--to",
    metavar="VERSION",
    type=click.IntRange(1, 2**63 - 1),
    help="Default: @previous, else what gateways know.",
)
@no_wait_option
@wait_option
@click.argument("model")
def rollback(
    config_path: Path,
    urls: tuple[str, ...],
    registry: str | None,
    reason: str,
    by: str | None,
    to: int | None,
    model: str,
    *,
    no_wait: bool,
    wait_seconds: float,
) -> None:
    """Have MODEL's production go back to the version before, in the registry, whatever gateways say."""
    from router.cli.promotion import MoveOptions, roll_back

    options = MoveOptions.of(config_path, urls, registry, by, reason, None if no_wait else wait_seconds)
    sys.exit(roll_back(options, model, to))


root.add_command(gate)
root.add_command(render)


def main() -> None:
    """The console script: configuration errors are printed line by line, with exit code 2."""
    try:
        root(prog_name="canary-router")
    except ConfigRefused as refused:
        for problem in refused.problems:
            click.echo(problem, err=True)
        sys.exit(EXIT_USAGE)
