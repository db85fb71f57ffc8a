"""Where the registry is, and the agent that asks it: one process, replaced when it hangs."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.core.environment_variables import child_environment
from router.core.events import ChildRestarted, Recorder
from router.errors import ChildLost, ChildTimeout, RegistryUnavailable
from router.processes.child import Child, Launcher

ROLE = "agent"
POLL_SECONDS = 8.0
"""What the registry may take of the 10 s of a poll, whatever it does; the rest is for an agent that has to be
ended and started. The agent's own limit for one silence is 5 s."""
START_SECONDS = 60.0
"""How long a launched agent's imports may take, on a busy machine and from a cold disk."""
_GRACE_SECONDS = 1.0
_LATE = "it did not answer a poll in time"
_OURS = "CANARY_ROUTER_"


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where the registry is, and the environment that its clients need."""

    registry_uri: str = field(repr=False)  # any of these may hold a password
    tracking_uri: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    credentials: Mapping[str, str] = field(default_factory=dict)
    """Absolute paths of files by their keys of the configuration: who sends requests reads them at each."""

    def frame(self) -> dict[str, Any]:
        """The first frame of an agent or a download; it carries credentials and is never shown."""
        return {
            "registry_uri": self.registry_uri,
            "tracking_uri": self.tracking_uri,
            "environment": dict(self.environment),
            "credentials": dict(self.credentials),
        }


class Agent:
    """Keeps the process that polls. Several tasks may ask it; they take turns."""

    def __init__(
        self,
        launcher: Launcher,
        address: RegistryAddress,
        recorder: Recorder,
        poll_seconds: float = POLL_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._launcher = launcher
        self._address = address
        self._recorder = recorder
        self._poll_seconds = poll_seconds
        self._start_seconds = start_seconds
        self._child: Child | None = None
        self._ended_because = ""
        self._closed = False
        # One after the other: the agent answers so anyway, and a deadline that ran while others are
        # answered would make the same models late in every round of a slow registry.
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the agent that runs now."""
        return self._child.pid if self._child is not None else None

    async def ask(
        self, request: Mapping[str, Any], deadline_seconds: float | None = None
    ) -> Mapping[str, Any]:
        """The agent's answer, within 8 s of its turn or the shorter deadline. Raises RegistryUnavailable.

        Where an agent has to be started, the 8 s run from when it is ready, which has a limit of its own.
        """
        async with self._turn:
            left_seconds = min(self._poll_seconds, deadline_seconds or self._poll_seconds)
            # Twice: a replaced database or an agent that somebody ended says nothing about the registry.
            for _ in range(2):
                child = await self._ready()
                began = time.monotonic()
                answer = await self._ask(child, request, left_seconds) if child is not None else None
                if answer is not None:
                    return answer
                left_seconds -= time.monotonic() - began
            raise RegistryUnavailable(f"the agent ended twice: {self._ended_because}")

    async def close(self) -> None:
        """End the process; polls under way fail, and none starts another."""
        self._closed = True
        await self._end("closed")

    async def _ask(
        self, child: Child, request: Mapping[str, Any], seconds: float
    ) -> Mapping[str, Any] | None:
        """One try; None when a new agent should be asked."""
        try:
            frame = await child.connection.call({**request, "seconds": seconds}, timeout_seconds=seconds)
        except ChildLost:
            await self._end("")
            return None
        except ChildTimeout:
            # It may hang on this request, and the next poll must not wait behind it.
            await self._end(_LATE)
            raise RegistryUnavailable(f"no answer within {seconds:.3g} s") from None
        except BaseException:  # cancelled
            await self._end(_LATE)
            raise
        if frame.header.get("error") == "replaced":
            await self._end(frame.header["message"])
            return None
        return frame.header

    async def _ready(self) -> Child | None:
        """An agent that waits for requests; None when it ended while it got ready."""
        if self._child is not None and self._child.exited.done():
            await self._end("")
        if self._child is None and not self._closed:
            self._child = await self._launch()
            if self._ended_because:
                self._recorder.record(ChildRestarted(ROLE, self._ended_because))
            if not self._closed:  # while it was launched
                await self._greet(self._child)
        if self._closed:
            await self._end("closed")
            raise RegistryUnavailable("the registry's agent is closed")
        return self._child

    async def _greet(self, child: Child) -> None:
        """Send it the address and wait until it is ready. Afterwards it is, or has ended."""
        try:
            await child.connection.call(self._address.frame(), timeout_seconds=self._start_seconds)
        except ChildLost:
            await self._end("")
        except ChildTimeout:
            await self._end("it was not ready in time")
            raise RegistryUnavailable(f"the agent was not ready within {self._start_seconds:g} s") from None
        except BaseException:  # cancelled
            await self._end("it was not ready in time")
            raise

    async def _launch(self) -> Child:
        try:
            return await self._launcher.launch(ROLE)
        except (ChildLost, ChildTimeout) as error:
            raise RegistryUnavailable(f"the agent could not be started: {error}") from error

    async def _end(self, reason: str) -> None:
        """End the process, if there is one. Without a `reason` it ended by itself; its status says why."""
        child, self._child = self._child, None
        if child is not None:
            # Shielded: a kill is followed by an exit status, also when whoever asked has given up.
            ended = await asyncio.shield(asyncio.ensure_future(child.stop(0 if reason else _GRACE_SECONDS)))
            self._ended_because = reason or str(ended)


def registry_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children do not start with, such as `MLFLOW_TRACKING_TOKEN` or `AWS_…`.

    A worker, which runs a version's code, never sees it; who talks to the registry gets it in a frame.
    """
    withheld = environ.keys() - child_environment(environ).keys()
    return {name: environ[name] for name in sorted(withheld) if not name.startswith(_OURS)}
