"""`canary-router health`: is the gateway on this machine alive? For health checks of containers."""

import os
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import click

from router.adapters.config.file import ConfigFile, load_settings
from router.cli.client import answers_well, own_url
from router.errors import ConfigRefused
from router.settings import ServerSettings

TIMEOUT_SECONDS = 2.0


def check_health(config_path: Path) -> int:
    """Ask the traffic listener of the configuration for `/livez`.

    Returns 0 when the gateway is alive, 1 when it answers with an error, 3 when it does not answer. Raises
    ConfigRefused when it does not answer and the configuration is not valid, so that the place where it was
    asked may be wrong. A gateway that is alive is not called otherwise for a file that it has refused: it
    serves on with the configuration that it had.
    """
    server, refused = _server_settings(config_path)
    if server.listen[1] == 0:
        raise ConfigRefused(
            ["server.listen: nobody knows which port the system chose for port 0: configure one"]
        )
    url = own_url(server.listen, encrypted=server.tls is not None) + "/livez"
    try:
        answers_well(url, TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        click.echo(f"not healthy: {url} answers {error.code}", err=True)
        return 1
    except (OSError, HTTPException) as error:
        if refused is not None:
            raise refused from error
        click.echo(f"no gateway answers at {url}: {getattr(error, 'reason', error)}", err=True)
        return 3
    click.echo(f"alive: {url}")
    if refused is not None:
        click.echo(f"but its configuration is not valid now: {refused.problems[0]}", err=True)
    return 0


def _server_settings(config_path: Path) -> tuple[ServerSettings, ConfigRefused | None]:
    try:
        return load_settings(config_path, os.environ, {}).settings.server, None
    except ConfigRefused as refused:
        return ConfigFile(config_path, os.environ, {}).server(), refused
