"""`canary-router off`: every canary off by a file, without a gateway that answers, a registry or a token."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from router.adapters.config.file import ConfigFile
from router.adapters.state.directory import directories_in_use
from router.adapters.state.off_file import make_off_file
from router.cli.levers import who_says
from router.errors import ConfigRefused
from router.settings import state_directories


def turn_off(config_path: Path, state_dir: Path | None, *, reason: str | None, by: str | None) -> int:
    """Make the file where the gateway looks for it, and say where; returns the exit code.

    0 where a gateway has used the directory, 1 where none has or the file can not be made. `state_dir` stands
    over the configuration. Raises ConfigRefused where nobody knows the directory.
    """
    who = who_says(reason, by)
    line = f"{who}: {reason}" if reason is not None else who
    named = state_dir.absolute() if state_dir is not None else _of_the_configuration(config_path)
    used = directories_in_use(named)
    made = [made for directory in used or [named] if (made := _made(directory, line)) is not None]
    for path in made:
        click.echo(f"made {path}")
    if not made:
        return 1
    if not used:
        click.echo(
            f"No gateway has ever used {named}: the canaries are not off. {_others()}\n"
            "`systemctl kill -s USR2 UNIT`, or SIGUSR2 to the gateway's process, needs no directory.",
            err=True,
        )
        return 1
    click.echo("Every canary of the gateways that use it is off within a second, and stays off.")
    click.echo(
        f"To give them their shares back: rm {made[0]}, then `canary-router resume --all --reason TEXT`."
    )
    return 0


def _of_the_configuration(config_path: Path) -> Path:
    hint = "the state directory is named in that file; with --state-dir DIR it is not needed"
    try:
        named = ConfigFile(config_path, os.environ, {}).state_directory()
    except ConfigRefused as refused:
        raise ConfigRefused([*refused.problems, f"{hint}. {_others()}"]) from None
    if named is None:
        raise ConfigRefused(["this user has no home directory: name the gateway's with --state-dir DIR"])
    return named


def _others() -> str:
    """Where gateways of this user keep their state by default, as a sentence."""
    found = ", ".join(map(str, _default_directories()))
    return f"Gateways of this user have used {found}." if found else "Gateways of this user have used none."


def _default_directories() -> Iterator[Path]:
    with suppress(RuntimeError, OSError):
        for directory in sorted(state_directories(os.environ).iterdir()):
            yield from directories_in_use(directory)


def _made(directory: Path, line: str) -> Path | None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return make_off_file(directory, line)
    except OSError as error:
        click.echo(f"{directory}: the file can not be made: {error.strerror}", err=True)
        return None
