"""What an operator does, by the operator's own means: the `canary-router` command and MLflow's own client."""

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient

from router.demo.gateway_process import clean_environment
from router.demo.workspace import Workspace
from router.errors import RouterError


class CommandFailed(RouterError):
    """A command of ours ended with an error."""


class Registry:
    """The demo's registry through MLflow's client, whose calls block: each runs in a thread."""

    def __init__(self, uri: str) -> None:
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    async def aliases(self, model: str) -> dict[str, int]:
        """Version by alias, read at one instant."""
        found = await asyncio.to_thread(self._client.get_registered_model, model)
        return {alias: int(version) for alias, version in found.aliases.items()}

    async def move(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version."""
        await asyncio.to_thread(self._client.set_registered_model_alias, model, alias, str(version))


async def run_command(place: Workspace, *arguments: str) -> str:
    """What `canary-router` prints with these arguments and the demo's configuration. Raises CommandFailed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "router", *arguments, "-c", str(place.config_file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    printed, _ = await process.communicate()
    output = printed.decode(errors="replace").rstrip()
    if process.returncode:
        raise CommandFailed(f"canary-router {shlex.join(arguments)}: {output}")
    return output


def commands_to_try(place: Workspace, url: str) -> Sequence[tuple[str, str]]:
    """What to try in another terminal, in the same directory: a few words, and a line to paste."""
    ours, config = _program("canary-router"), shlex.quote(_near(place.config_file))
    uri = f"sqlite:///{_near(place.registry / 'mlflow.db')}"
    body = shlex.quote('{"dataframe_records": [{"text": "not bad at all"}]}')
    good, bad = "'it is as good'", "'complaints since noon'"
    invoke = f"-H 'Content-Type: application/json' -H 'X-Request-Key: user-2' -d {body}"
    return (
        ("what a quarter of the users would do to it", f"{ours} plan sentiment 25 -c {config}"),
        ("give the canary a quarter of the users", f"{ours} split sentiment 25 -c {config}"),
        ("promote it: production becomes v2", f"{ours} promote sentiment --reason {good} --yes -c {config}"),
        ("an incident: production becomes v1 again", f"{ours} rollback sentiment --reason {bad} -c {config}"),
        ("what served whom, who changed it and why", f"{ours} history sentiment -c {config}"),
        ("ask as user-2, and see who answers", f"curl -si {url}/invocations {invoke}"),
        ("why user-2 gets that answer", f"curl -s '{url}/v1/route?model=sentiment&key=user-2'"),
        ("what is served", f"{ours} status -c {config}"),
        ("whether the canary is good", f"{ours} compare sentiment -c {config}"),
        ("the metrics", f"curl -s {url}/metrics | grep canary_router_score_bin_total"),
        ("MLflow's own pages", f"{_program('mlflow')} ui --backend-store-uri {shlex.quote(uri)} --port 5000"),
    )


def _program(name: str) -> str:
    """A console script as a shell finds it: beside our interpreter, which need not be on the PATH."""
    beside = Path(sys.executable).parent / name
    return shlex.quote(_near(beside)) if beside.exists() else name


def _near(path: Path) -> str:
    """Relative where that is shorter to read; the commands are pasted in the same directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
