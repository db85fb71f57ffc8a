"""Whether a version answers at its address, and whether it is that version, as far as the engine tells."""

from dataclasses import dataclass
from typing import Any

import orjson

from router.adapters.addresses.connections import Connections
from router.core.ids import VersionId
from router.core.version_address import VersionAddress
from router.errors import OutboundFailed, OutboundTimeout

PROBE_SECONDS = 5.0
"""For one question, the whole answer included."""
PROBE_BYTES = 1 << 20
"""Of one answer to a probe: it is read in the event loop, again and again."""
_MOST_VERSIONS = 100
"""That an engine names; what is behind them is not looked at."""
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Readiness:
    """What one look found."""

    ready: bool
    why: str = ""
    """Why it is not ready; never what was answered."""
    is_late: bool = False
    """Whether it gave no answer in time, which may be for the requests that it works on."""
    is_another: bool = False
    """Whether the engine says that it holds another model or another version."""
    verified: bool = False
    """Whether the engine says that it holds this version, and no other one that may answer in its place."""


class ReadinessProbe:
    """Looks at one version."""

    def __init__(self, version: VersionId, address: VersionAddress, connections: Connections) -> None:
        """`connections` are for probes alone: those of requests may all be busy."""
        self._version = version
        self._address = address
        self._connections = connections

    async def look(self) -> Readiness:
        """Ask once. Takes 10 s at most."""
        try:
            ready = await self._connections.ask("GET", self._address.ready, seconds=PROBE_SECONDS)
            if ready.status != 200:
                return Readiness(ready=False, why=f"asked whether it is ready, it answers {ready.phrase}")
            if self._address.metadata is None:
                return Readiness(ready=True)
            metadata = await self._connections.ask("GET", self._address.metadata, seconds=PROBE_SECONDS)
        except OutboundFailed as failed:
            return Readiness(ready=False, why=str(failed), is_late=isinstance(failed, OutboundTimeout))
        return self._identity(metadata.body) if metadata.status == 200 else Readiness(ready=True)

    def _identity(self, body: bytes) -> Readiness:
        try:
            document = orjson.loads(body)
        except ValueError:
            return Readiness(ready=True)
        if not isinstance(document, dict):
            return Readiness(ready=True)
        # Names in an address are quoted; the engine may say them either way.
        name = document.get("name")
        if isinstance(name, str) and name and name not in (self._address.name, self._version.model):
            return _another(f"the engine calls its model {_shown(name)}, not {self._address.name}")
        versions = document.get("versions")
        if not isinstance(versions, list) or not versions:
            return Readiness(ready=True)
        number = str(self._version.number)
        named = [str(one) for one in versions[:_MOST_VERSIONS] if isinstance(one, str | int)]
        # Some engines begin the names of versions with a letter.
        if not any(one.removeprefix("v") == number for one in named):
            if not named or len(versions) > _MOST_VERSIONS:
                return Readiness(ready=True)  # it does not tell, or not among those that are looked at
            return _another(f"the engine has version {_shown(', '.join(named))}, not {number}")
        chosen = self._address.infer.endswith(f"/versions/{number}/infer")
        return Readiness(ready=True, verified=chosen or len(versions) == 1)


def _another(why: str) -> Readiness:
    return Readiness(ready=False, why=why, is_another=True)


def _shown(text: Any) -> str:
    return "".join(one if one.isprintable() else " " for one in str(text)[:_SHOWN])
