"""Processes that the demo starts: the gateway above all. What is started here is ended here."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from router.errors import RouterError

END_SECONDS = 30.0
"""Longer than the drain time of the configuration."""
LOG_LINES_SHOWN = 15
_NO_BALANCER = {"CANARY_ROUTER_SERVER__MIN_DRAIN_SECONDS": "0"}
"""When the demo ends its gateway, nobody sends to it any more."""


class GatewayFailed(RouterError):
    """The gateway ended, or did not become ready; the message ends with its last log lines."""


def clean_environment() -> dict[str, str]:
    """Ours without what would point the gateway or MLflow elsewhere: the demo's registry is the only one."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW_", "CANARY_ROUTER_", "DEMO_"))}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true"}


@asynccontextmanager
async def training(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    stdout: int | None = None,
    stderr: BinaryIO | None = None,
) -> AsyncIterator[Process]:
    """`module` with these arguments while the block runs; killed when it is left before its end.

    A process of its own: MLflow and scikit-learn take 300 MB that traffic has no use for.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", "-m", module, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def gateway(config_file: Path, log: Path) -> AsyncIterator[Process]:
    """`canary-router serve` while the block runs, ended when it is left."""
    with log.open("wb") as output:
        # A session of its own: a Ctrl-C reaches the demo, which ends its traffic first and the gateway then.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "router", "serve", "-c", str(config_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=STDOUT,
            env={**clean_environment(), **_NO_BALANCER},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def wait_until_ready(process: Process, log: Path, url: str, seconds: float) -> None:
    """Wait at most `seconds` until the gateway is ready and every alias serves a version. Raises
    GatewayFailed.

    It is asked once its log says that it listens at `url`: until then another gateway may answer there.
    """
    deadline = time.monotonic() + seconds
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while not (_listens(log, url) and await _all_bound(session)):
            if process.returncode is not None:
                raise GatewayFailed(f"the gateway ended with code {process.returncode}; {_tail(log)}")
            if time.monotonic() > deadline:
                raise GatewayFailed(f"the gateway was not ready after {seconds:g} s; {_tail(log)}")
            await asyncio.sleep(0.1)


async def read_state(session: aiohttp.ClientSession) -> Mapping[str, Any]:
    """`/v1/state` as it is now; empty when it can not be had."""
    try:
        async with session.get("/v1/state") as response:
            document: Mapping[str, Any] = await response.json()
            return document
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}


async def _all_bound(session: aiohttp.ClientSession) -> bool:
    state = await read_state(session)
    models = state.get("models", {}).values()
    bound = [alias["bound"] is not None for model in models for alias in model["aliases"].values()]
    return bool(state.get("ready") and bound and all(bound))


def _listens(log: Path, url: str) -> bool:
    return f" on {url} (admin " in log.read_text(encoding="utf-8", errors="replace")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n  ".join([f"the end of {log}:", *lines])
