"""What describes a version that runs elsewhere, read in a child: files of a version are not read here."""

import asyncio
from dataclasses import dataclass

from router.core.version_address import Engine
from router.errors import ChildLost, ChildTimeout, LoadFailed
from router.processes.child import Launcher
from router.protocol import messages
from router.protocol.messages import LoadSpec, VersionInfo, WireRefused

ROLE = "describe"
_SECONDS = 30.0
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Description:
    """A version, as its MLmodel describes it."""

    info: VersionInfo
    example: bytes
    """Its input example as a request; empty where there is none."""


async def read_description(launcher: Launcher, spec: LoadSpec, engine: Engine) -> Description:
    """Read it, in 30 s at most. Raises LoadFailed; leaves no process behind, also when it is cancelled."""
    version = spec.version
    order = {
        "directory": spec.directory,
        "model": version.model,
        "version": version.number,
        "protocol": engine,
    }
    try:
        child = await launcher.launch(ROLE, version=version)
    except (ChildLost, ChildTimeout) as error:
        raise LoadFailed(f"its MLmodel could not be read: {error}", phase="load") from error
    child.connection.limit(messages.WORKER_LIMITS)
    try:
        frame = await child.connection.call(order, timeout_seconds=_SECONDS)
        if frame.header.get("op") != messages.READY:
            raise messages.failure(frame.header)
        return Description(messages.version_info(frame.header, ()), frame.bodies[0])
    except (ChildLost, ChildTimeout, WireRefused, IndexError) as error:
        child.kill()
        raise LoadFailed(f"its MLmodel could not be read: {error}", phase="load") from error
    except BaseException:
        child.kill()
        raise
    finally:
        # Shielded: whoever gives up meanwhile leaves no process.
        await asyncio.shield(asyncio.ensure_future(child.stop(_GRACE_SECONDS)))
