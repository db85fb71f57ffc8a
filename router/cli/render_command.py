"""`canary-router render`: prints what runs a version where the gateway looks for it."""

import os
import sys
from importlib.metadata import version as release
from pathlib import Path

import click

from router.cli.options import config_option


@click.command()
@config_option
@click.argument("model")
@click.argument("version", type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--as",
    "kind",
    type=click.Choice(["inferenceservice", "deployment"]),
    required=True,
    help="Of KServe; or a Deployment and its Service.",
)
@click.option(
    "--source",
    metavar="URI",
    help="Where its files lie. Needed for an inferenceservice; a Deployment asks the registry unless given.",
)
@click.option("--image", metavar="IMAGE", help="Of the server, with all that the version needs.")
def render(
    config_path: Path, model: str, version: int, *, kind: str, source: str | None, image: str | None
) -> None:
    """Print the objects that run VERSION of MODEL at its address. Nothing is asked, and nothing applied."""
    sys.exit(_render(config_path, model, version, kind, source, image))


def _render(
    config_path: Path, model: str, number: int, kind: str, source: str | None, image: str | None
) -> int:
    from ruamel.yaml import YAML

    from router.adapters.config.file import load_settings
    from router.cli.split import find_model
    from router.core.version_manifests import NotRendered, VersionToRun, manifests, without_credentials

    settings = load_settings(config_path, os.environ, {}).settings
    where = find_model(settings, model).where
    if where is None:
        click.echo(f"versions of {model} run in the gateway: models.{model}.where is local", err=True)
        return 2
    wanted = VersionToRun(
        *(model, number, where.address(model, number), where.http),
        without_credentials(settings.registry.places(os.environ).uri),
        release("mlflow"),
        source,
        image,
    )
    try:
        found = manifests("deployment" if kind == "deployment" else "inferenceservice", wanted)
    except NotRendered as why:
        click.echo(str(why), err=True)
        return 2
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda *_: True
    yaml.width = 4096
    yaml.dump_all(found, sys.stdout)
    return 0
