"""`canary-router render`: prints what runs versions where the gateway looks for them."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as release
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router.cli.options import config_option

if TYPE_CHECKING:
    from router.core.ray_config import VersionOnRay
    from router.core.version_manifests import VersionToRun
    from router.settings import Settings
    from router.settings.where import AddressSettings

_US = "mlflow-canary-router"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    model: str
    numbers: Sequence[int]
    kind: str
    source: str | None
    image: str | None
    files: str | None
    beside: Path | None

    @property
    def is_of_ray(self) -> bool:
        return self.kind == "ray"


@click.command()
@config_option
@click.argument("model")
@click.argument("versions", metavar="VERSION...", type=click.IntRange(1, 2**63 - 1), nargs=-1, required=True)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["inferenceservice", "deployment", "ray"]),
    required=True,
    help="Of KServe; a Deployment and its Service; or a configuration file of Ray Serve, for `serve deploy`"
    " (ServeDeploySchema), with an application for each version.",
)
@click.option(
    "--source",
    metavar="URI",
    help="Where its files lie. Needed for an inferenceservice; else the registry is asked, unless given."
    " {version} in it stands for the number.",
)
@click.option("--image", metavar="IMAGE", help="Of the server, with all that the version needs. Not of ray.")
@click.option(
    "--files",
    metavar="DIRECTORY",
    help="Of ray: the version's files as downloaded here; what its requirements.txt asks for is installed for"
    " it. {version} in it stands for the number. Default: Ray's own Python has what versions need.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Of ray: the file that was deployed last. It is printed with all that it has, and with what it has"
    " not: `serve deploy` ends every application that its file does not have.",
)
def render(
    config_path: Path,
    model: str,
    versions: tuple[int, ...],
    *,
    kind: str,
    source: str | None,
    image: str | None,
    files: str | None,
    beside: Path | None,
) -> None:
    """Print what runs each VERSION of MODEL at its address. Nothing is asked, and nothing applied."""
    from router.core.version_manifests import has_credentials

    wanted = _Wanted(model, tuple(dict.fromkeys(versions)), kind, source, image, files, beside)
    if wanted.is_of_ray and image is not None:
        raise click.UsageError("--image is not of ray: its processes run in the image of the cluster")
    if not wanted.is_of_ray and (files is not None or beside is not None):
        raise click.UsageError("--files and --beside are of ray")
    for name, text in (("--source", source), ("--files", files)):
        if text is not None and "{version}" not in text and len(wanted.numbers) > 1:
            raise click.UsageError(f"{name} has to hold {{version}}: there are several")
    if source is not None and has_credentials(source):
        raise click.UsageError(
            "--source holds credentials, which what is printed may not: a Secret brings them"
        )
    sys.exit(_render(config_path, wanted))


def _render(config_path: Path, wanted: _Wanted) -> int:
    from router.adapters.config.file import load_settings
    from router.cli.printed_yaml import printed
    from router.core.version_manifests import NotRendered, manifests

    settings = load_settings(config_path, os.environ, {}).settings
    try:
        if wanted.is_of_ray:
            text = _ray_file(settings, wanted)
        else:
            kind: Any = wanted.kind
            objects = [manifests(kind, one) for one in _to_run(settings, wanted)]
            text = printed([document for each in objects for document in each])
    except NotRendered as why:
        click.echo(str(why), err=True)
        return 2
    click.echo(text, nl=False)
    return 0


def _to_run(settings: "Settings", wanted: _Wanted) -> "list[VersionToRun]":
    from router.core.version_manifests import VersionToRun, without_credentials

    where = _where(settings, wanted.model)
    return [
        VersionToRun(
            *(wanted.model, number, where.address(wanted.model, number), where.http),
            without_credentials(settings.registry.places(os.environ).uri),
            release("mlflow"),
            _of(number, wanted.source),
            wanted.image,
        )
        for number in wanted.numbers
    ]


def _ray_file(settings: "Settings", wanted: _Wanted) -> str:
    """What was deployed last, and the versions that it has not."""
    from router.cli.printed_yaml import printed, read, with_more
    from router.core.ray_config import APPLICATIONS, add_to, new_file
    from router.core.version_manifests import NotRendered

    versions = _on_ray(settings, wanted)
    if wanted.beside is None:
        file = new_file(_where(settings, wanted.model).http)
        add_to(file, versions)
        return printed([file])
    file = read(wanted.beside)
    try:
        added = add_to(file, versions)
    except NotRendered as why:
        raise NotRendered(f"{wanted.beside}: {why}") from why
    for name in added.present:
        click.echo(f"{wanted.beside} has {name} already, which is left as it is", err=True)
    return with_more(wanted.beside, APPLICATIONS, added.new)


def _on_ray(settings: "Settings", wanted: _Wanted) -> "list[VersionOnRay]":
    from router.core.ray_config import VersionOnRay
    from router.core.version_manifests import NotRendered, without_credentials

    where, model = _where(settings, wanted.model), settings.models[wanted.model]
    if model.writable:
        raise NotRendered(
            f"models.{wanted.model}.writable gives each process files of its own, and processes on Ray share"
            " them: a version that writes to its files can not run there"
        )
    answers: dict[str, Any] = {"max_rows": model.max_rows, "nan_is_null": model.nan}
    if model.configuration:
        answers["model_config"] = model.configuration
    return [
        VersionOnRay(
            *(wanted.model, number, where.address(wanted.model, number)),
            without_credentials(settings.registry.places(os.environ).uri),
            _of(number, wanted.source),
            _requirements(number, wanted),
            answers,
            model.predict_timeout_seconds,
        )
        for number in wanted.numbers
    ]


def _requirements(number: int, wanted: _Wanted) -> tuple[str, ...] | None:
    """What is installed for a version: its own, but for what the gateway's own code needs. Raises NotRendered
    where `environment: own` would refuse it, or where it asks for what the cluster has to have."""
    if (directory := _of(number, wanted.files)) is None:
        return None
    from router.core.requirement_lines import package_of
    from router.core.version_manifests import NotRendered
    from router.environments.rules import Rules, own_requirements
    from router.environments.wanted import read_wanted
    from router.errors import EnvironmentRefused

    try:
        found = read_wanted(Path(directory), Rules(own=own_requirements()))
    except EnvironmentRefused as why:
        raise NotRendered(f"{wanted.model} {number}, {directory}: {why}") from why
    if theirs := {_US, "ray"} & set(map(package_of, found.lines)):
        raise NotRendered(
            f"{wanted.model} {number}, {directory}: it asks for {' and '.join(sorted(theirs))}, of which the"
            " cluster has to have one release: take the line out of its requirements.txt"
        )
    if found.python:
        click.echo(
            f"{wanted.model} {number} was logged under Python {found.python}, and Ray's is the cluster's",
            err=True,
        )
    lines = (f"{_US}=={release(_US)}", *found.own_lines, *found.lines)
    # Plain requirements are all that `pip` of a runtime_env has: what only narrows would be installed.
    named = set(map(package_of, lines))
    return *lines, *(line for line in found.constraints if package_of(line) in named)


def _where(settings: "Settings", model: str) -> "AddressSettings":
    from router.cli.split import find_model
    from router.core.version_manifests import NotRendered

    where = find_model(settings, model).where
    if where is None:
        raise NotRendered(f"versions of {model} run in the gateway: models.{model}.where is local")
    return where


def _of(number: int, text: str | None) -> str | None:
    return None if text is None else text.replace("{version}", str(number))
