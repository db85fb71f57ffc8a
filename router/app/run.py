"""One gateway from its configuration to its last worker's end."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from router import __version__, off_signal
from router.adapters.config.file import ConfigFile
from router.adapters.log.child_log import ChildLog
from router.adapters.log.format import configure_logging
from router.adapters.state.off_file import OffFile
from router.adapters.state.state_directory import StateDirectory
from router.app.backends import open_backends
from router.app.build import Gateway, Instruments, Recorders, build_gateway
from router.app.outbound import Outbound
from router.app.reload import Certificates
from router.control.break_glass import BreakGlassWatch
from router.core.environment_variables import is_withheld, refusal, unknown_variables
from router.core.events import ReadinessChanged, ShutdownCutShort
from router.core.ids import GatewayId
from router.core.memory import MIB
from router.processes.memory import MEMORY
from router.processes.process import forbid_core_dumps
from router.settings import ServerSettings, Settings
from router.web.admin import admin_token, fleet_key, lower_token
from router.web.apps import admin_app, traffic_app
from router.web.context import WebState
from router.web.listeners import Listener, bind, connection_limit, listening, raise_descriptor_limit

ADMIN_CONNECTIONS = 128
LONGEST_QUIET_SECONDS = 2.0
"""Without a request for so long, those who send have noticed that this gateway is not ready any more."""
LONGEST_CLOSING_SECONDS = 2.0
"""Of the time to drain, what is kept to answer what still runs at its end, and to end the workers."""
LONGEST_HAND_OVER_SECONDS = 5.0
"""Of the time to drain, for other gateways to ask for what this one observed last."""
LONGEST_GRACE_SECONDS = 1.0
"""For a version to end by itself."""
NO_STATE_DIRECTORY = "this user has no home directory: name a directory as server.state_dir"
_LOOK_SECONDS = 0.02
_BUILDER = "uv"
"""The package that resolves and builds environments, in a process of its own."""

_log = logging.getLogger(__name__)


class GatewayServer:
    """A gateway that runs while its context is entered: `start`, then `drain` and `stop` in one.

    Once per object. `begin_drain` may be called at any time after the start; leaving the context drains
    in any case.
    """

    gateway: Gateway
    traffic_address: tuple[str, int]
    """Host and port that were bound."""
    admin_address: tuple[str, int]

    def __init__(
        self, config_path: Path, flags: Mapping[str, str], instruments: Instruments | None = None
    ) -> None:
        """`instruments` None: those of the product."""
        self._source = ConfigFile(config_path, os.environ, flags)
        self._instruments = instruments or Instruments.of_the_product()
        self._undo = AsyncExitStack()
        """What was started, to be ended in reverse order."""
        self._shutdown: GracefulShutdown

    async def __aenter__(self) -> "GatewayServer":
        try:
            await self.start()
        except BaseException:
            await self._undo.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load the configuration, bind both ports, start every part. Raises ConfigRefused, OSError."""
        loaded = self._source.parse(self._source.read())
        settings = loaded.settings
        configure_logging(settings.log.level, settings.log.format)
        for notice in loaded.notices:
            _log.warning(notice)
        _log_environment()
        _log_memory()
        _log_own_environments(settings)
        if not settings.server.core_dumps:
            forbid_core_dumps()  # before anything is started: children inherit it
        token = admin_token(settings.server, os.environ)
        lower = lower_token(settings.server, token)
        key = fleet_key(settings.fleet, token)
        certificates = Certificates.of(settings.server)
        # Ports first: a port that is taken must be reported before anything is started.
        traffic_socket, admin_socket = self._bind(settings.server)
        name = f"{socket.gethostname()}:{os.getpid()}"
        recorders = Recorders(self._instruments.metrics, name)
        child_log = ChildLog()
        child_log.shown = settings.log.model_output  # the fork server starts before all else is built
        backends = await self._undo.enter_async_context(
            open_backends(settings, recorders.all, child_log, self._instruments.preload)
        )
        state = settings.state_directory(os.environ)
        identity = GatewayId(secrets.token_hex(8), socket.gethostname())
        state_directory = StateDirectory(state, NO_STATE_DIRECTORY, name, recorders.all, identity)
        self._undo.push_async_callback(state_directory.close)
        await state_directory.start()
        gateway = build_gateway(
            self._source,
            loaded,
            self._instruments,
            recorders,
            backends,
            state_directory,
            OffFile(state, NO_STATE_DIRECTORY),
            child_log,
            certificates,
            key,
        )
        self.gateway = gateway
        self._undo.callback(recorders.journal.stop)
        self._undo.push_async_callback(gateway.outbound.close)
        self._undo.push_async_callback(gateway.web.caps.settled)
        self._undo.push_async_callback(gateway.models.close)
        self._undo.callback(self._follow_signal(gateway.break_glass))
        await gateway.break_glass.start()
        await gateway.outbound.start()
        gateway.analysis.start()
        gateway.config.start()
        state_directory.write_journal(recorders.journal)
        recorders.journal.start(
            gateway.models, {"version": __version__, "configuration": gateway.config.digest}
        )
        for loop in gateway.loops:
            loop.start()
            self._undo.push_async_callback(loop.stop)

        raise_descriptor_limit()
        traffic = traffic_app(gateway.web, observable=settings.server.observe == "traffic")
        admin = admin_app(gateway.web, token, lower)
        admin_tls = certificates.admin.context if certificates.admin else None
        await self._undo.enter_async_context(
            listening(admin, admin_socket, limit=ADMIN_CONNECTIONS, tls=admin_tls)
        )
        tls = certificates.traffic.context if certificates.traffic else None
        listener = await self._undo.enter_async_context(
            listening(traffic, traffic_socket, limit=connection_limit(), tls=tls)
        )
        self.traffic_address = traffic_socket.getsockname()[:2]
        self.admin_address = admin_socket.getsockname()[:2]
        self._shutdown = GracefulShutdown(gateway.web, listener)
        self._undo.push_async_callback(self._shutdown.hand_over, gateway.outbound)
        self._undo.callback(gateway.analysis.leave)
        self._undo.push_async_callback(self._shutdown.drain)

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.gateway.config.settings

    async def reload(self) -> object:
        """Read the configuration now, as an operator who asks for it. Raises ConfigRefused."""
        return await self.gateway.web.reload()

    def begin_drain(self, *, waits_for_balancers: bool) -> None:
        """Not ready from now on. What comes and what runs is answered until the time to drain is over.

        `waits_for_balancers`: for `server.min_drain_seconds` at least, whether anything comes or not.
        """
        self._shutdown.start(waits_for_balancers=waits_for_balancers)

    def cut_drain_short(self) -> None:
        """Wait for nothing any more."""
        self._shutdown.abort()

    async def stop(self) -> None:
        """Drain, then end every part in reverse order."""
        await self._undo.aclose()
        _log.info("stopped")

    @staticmethod
    def _follow_signal(break_glass: BreakGlassWatch) -> Callable[[], None]:
        """Every canary goes off at SIGUSR2, also one that came before; returns what ends that."""
        loop = asyncio.get_running_loop()
        return off_signal.follow(lambda: loop.call_soon_threadsafe(break_glass.signalled))

    def _bind(self, server: ServerSettings) -> tuple[socket.socket, socket.socket]:
        """Both sockets; of a first one, nothing is left when the second is taken."""
        bound = []
        for address in (server.listen, server.admin):
            bound.append(bind(*address))
            self._undo.callback(bound[-1].close)
        return bound[0], bound[1]


class GracefulShutdown:
    """The end of a gateway. `abort()` cuts it short."""

    def __init__(self, gateway: WebState, listener: Listener) -> None:
        """`listener` is that of the traffic. `server.drain_seconds`, as it is at the start, bounds it all."""
        self._gateway = gateway
        self._listener = listener
        self._aborted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began_at = 0.0
        self._waits_for_balancers = False

    def start(self, *, waits_for_balancers: bool = False) -> None:
        """Not ready from now on, and every answer closes its connection; idempotent.

        `waits_for_balancers`: the port stays open for `server.min_drain_seconds` at least. That nobody sends
        says nothing: a load balancer that sends once in a while has not noticed before its next probe.
        """
        if not self._gateway.traffic.stopping:
            self._gateway.traffic.stopping = True
            self._began_at = self._loop.time()
            self._waits_for_balancers = waits_for_balancers
            seconds = self._gateway.settings.current.server.drain_seconds
            _log.info("stopping; what comes and what runs is answered for %g s at most", seconds)
            self._gateway.recorder.record(ReadinessChanged(ready=False))

    def abort(self) -> None:
        """Wait for nothing any more."""
        self._aborted.set()

    async def drain(self) -> None:
        """Answer what comes and what runs; at the end of the time, or once aborted, refuse what is left."""
        self.start()
        server, began_at = self._gateway.settings.current.server, self._began_at
        seconds = server.drain_seconds
        closing = min(LONGEST_CLOSING_SECONDS, seconds / 4)
        quiet = min(LONGEST_QUIET_SECONDS, seconds / 5)
        open_until = began_at + (server.min_drain_seconds if self._waits_for_balancers else 0.0)
        traffic, connections = self._gateway.requests, self._listener.connections
        # The socket stays open: load balancers go on sending until they have noticed. Under constant traffic
        # it is closed a little before the end, so that what was accepted can still be answered.
        closed_by = began_at + seconds - 1.5 * closing
        while traffic.under_way or self._loop.time() <= max(
            open_until, began_at + quiet, traffic.last_at + quiet
        ):
            if not await self._look_again(closed_by):
                break
        self._listener.refuse_more()
        while connections.pending() and await self._look_again(began_at + seconds - closing):
            pass
        self._report_what_is_left(began_at)
        # What still waits for its body or its answer gets 503, in MLflow's shape: cut off, a caller would
        # not know whether to try again.
        traffic.stop_reading()
        # Callers have that at once; versions have the time that they get when an alias moves, and what they
        # registered for the end of their process runs in it.
        grace = 0.0 if self._aborted.is_set() else min(LONGEST_GRACE_SECONDS, closing / 2)
        await self._gateway.models.close(grace)
        answers_by = self._loop.time() + closing / 2
        self._aborted.clear()
        while connections.pending() and await self._look_again(answers_by):
            pass

    async def hand_over(self, outbound: Outbound) -> None:
        """After the drain, wait until other gateways have asked: what this one observed counts."""
        drained_by = self._began_at + self._gateway.settings.current.server.drain_seconds
        seconds = min(LONGEST_HAND_OVER_SECONDS, drained_by - self._loop.time())
        if seconds > 0:
            both = {
                self._loop.create_task(outbound.hand_over(seconds), name="hand over"),
                self._loop.create_task(self._aborted.wait(), name="abort"),
            }
            _, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _report_what_is_left(self, began_at: float) -> None:
        connections = self._listener.connections
        if connections.pending():
            seconds = self._loop.time() - began_at
            left = ShutdownCutShort(connections.busy, connections.unread, seconds)
            self._gateway.recorder.record(left)

    async def _look_again(self, ends_at: float) -> bool:
        """A short wait; False, without one, when the time is over or the shutdown was aborted."""
        # Looked at, not waited for: neither connections nor write buffers report a change.
        if self._aborted.is_set() or self._loop.time() >= ends_at:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
        return True


def _log_environment() -> None:
    for name in unknown_variables(os.environ):
        _log.warning("%s is set, and versions do not get it: this gateway does not know what it opens", name)
    withheld = sorted(name for name in os.environ if is_withheld(name) and not refusal(name))
    if withheld:
        _log.info(
            "withheld from versions, unless environment_variables of their model lists them: %s",
            ", ".join(withheld),
        )


def _log_own_environments(settings: Settings) -> None:
    own = sorted(name for name, model in settings.models.items() if model.environment == "own")
    if not own:
        return
    _log.info("versions of %s run in Python environments of their own", ", ".join(own))
    if find_spec(_BUILDER) is None:
        _log.warning(
            "%s is not installed, and no environment can be built: the extra `environments` brings it",
            _BUILDER,
        )


def _log_memory() -> None:
    room = MEMORY.room()
    _log.info("%d MiB of memory are available, below %s", room.available // MIB, room.limit)
    if MEMORY.ends_all_together:
        _log.warning(
            "memory.oom.group is 1: out of memory, the kernel ends this gateway and all its versions at once;"
            " only the check of room before each load prevents that"
        )
