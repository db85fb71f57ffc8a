"""Options that several commands take."""

from pathlib import Path

import click

LONGEST_WAIT_SECONDS = 86_400

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
files_option = click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A file of a journal, or a gateway's log in JSON; repeatable. Default: the journal of this machine's"
    " gateway.",
)
registry_option = click.option(
    "--registry", metavar="URI", help="The registry as this machine reaches it; default: the configuration's."
)
no_wait_option = click.option("--no-wait", is_flag=True, help="Do not wait until every gateway serves it.")


def _seconds(_: click.Context, __: click.Parameter, seconds: float) -> float:
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:  # nor may it be "nan", which a FloatRange takes
        raise click.BadParameter(f"must be 0 to {LONGEST_WAIT_SECONDS}")
    return seconds


wait_option = click.option(
    "--wait-seconds",
    type=float,
    default=900.0,
    show_default=True,
    callback=_seconds,
    help="How long every gateway is given to serve it.",
)
