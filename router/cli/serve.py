"""`canary-router serve`: run the gateway until a signal stops it."""

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from router.adapters.config.file import load_settings
from router.adapters.log.format import install_exception_hooks, loop_exception_handler
from router.adapters.log.writer import STDERR, STDOUT
from router.adapters.service_manager import ServiceManager
from router.app.build import Instruments
from router.app.reload import Certificates
from router.app.run import GatewayServer
from router.cli.client import base_url
from router.errors import ConfigRefused, SlowParser
from router.processes.gc_tuning import freeze_heap
from router.web.admin import admin_token, fleet_key, lower_token
from router.web.listeners import require_compiled_parser

_STOPS = (signal.SIGTERM, signal.SIGINT)


def check_config(config_path: Path, flags: dict[str, str]) -> int:
    """Print what the configuration says; raises ConfigRefused with every problem."""
    loaded = load_settings(config_path, os.environ, flags)
    token = admin_token(loaded.settings.server, os.environ)
    lower_token(loaded.settings.server, token)
    fleet_key(loaded.settings.fleet, token)
    Certificates.of(loaded.settings.server)
    for notice in loaded.notices:
        click.echo(notice)
    models = ", ".join(loaded.settings.models)
    click.echo(f"{config_path}: ok; models: {models}; sha256 {loaded.digest[:12]}")
    return 0


def run_gateway(config_path: Path, flags: dict[str, str], instruments: Instruments | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns 0 after a stop, 1 without a port, 2 with a bad install or
    configuration. An exit waits for nobody who does not read what is printed."""
    manager = ServiceManager.of(os.environ)
    try:
        require_compiled_parser()
        install_exception_hooks()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(GatewayServer(config_path, flags, instruments), manager))
    except SlowParser as error:
        return _failed(2, [str(error)])
    except ConfigRefused as refused:
        return _failed(2, refused.problems)
    except OSError as error:
        return _failed(1, [str(error.strerror or error)])
    finally:
        for number in _STOPS:  # a further one must not turn a clean stop into a death by signal
            signal.signal(number, signal.SIG_IGN)
        for writer in (STDOUT, STDERR):
            writer.flush()
    return 0


def _failed(code: int, problems: Iterable[str]) -> int:
    for problem in problems:
        STDERR.write(problem)
    return code


async def _serve(server: GatewayServer, manager: ServiceManager) -> None:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[signal.Signals] = loop.create_future()
    loop.set_exception_handler(loop_exception_handler)
    for number in _STOPS:
        loop.add_signal_handler(number, _resolve, stop, number)
    async with server:
        asked = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, asked.set)
        reloading = loop.create_task(_reload_when(asked, server, manager))
        manager.listening(_announce(server))
        freeze_heap()
        # Who is in front of a terminal is no load balancer, and does not want to wait for one.
        server.begin_drain(waits_for_balancers=await stop is signal.SIGTERM)
        manager.stopping()
        for number in _STOPS:
            loop.add_signal_handler(number, server.cut_drain_short)
        reloading.cancel()


def _resolve(stop: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if not stop.done():
        stop.set_result(number)


async def _reload_when(asked: asyncio.Event, server: GatewayServer, manager: ServiceManager) -> None:
    while True:
        await asked.wait()
        asked.clear()
        manager.reloading()
        with suppress(ConfigRefused):  # the log says what is wrong; the configuration in force stays
            await server.reload()
        manager.reloaded()


def _announce(server: GatewayServer) -> str:
    """Print what is served and where; returns the address of the traffic."""
    settings = server.settings.server
    url = base_url(*server.traffic_address, encrypted=settings.tls is not None)
    admin = base_url(*server.admin_address, encrypted=settings.admin_tls is not None)
    names = ", ".join(server.gateway.models.managers)
    # Standard output: scripts wait for this line; everything else goes to standard error.
    STDOUT.write(f"canary-router serves {names} on {url} (admin {admin})")
    STDOUT.close()
    return url


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # the standard loop behaves the same, slower
        return None
    return uvloop.Loop
