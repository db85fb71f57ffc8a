"""Brings versions to READY that run elsewhere: waits until each is ready, and asks its example."""

import asyncio
import logging
from functools import partial
from time import perf_counter

from msgspec.structs import replace

from router.adapters.addresses.answers import JSON, unlike_signature, why_unusable
from router.adapters.addresses.connections import Connections
from router.adapters.addresses.description import Description, read_description
from router.adapters.addresses.readiness import PROBE_BYTES, ReadinessProbe
from router.adapters.addresses.score_reader import ChildScoreReader
from router.adapters.addresses.worker import AddressWorker
from router.core.events import Recorder
from router.core.ids import VersionId
from router.core.memory import Room
from router.core.version_address import VersionAddress
from router.errors import LoadFailed, OutboundFailed, WarmUpLost
from router.processes.child import Launcher
from router.processes.memory import MEMORY
from router.protocol.messages import LoadSpec, VersionInfo
from router.settings import Settings
from router.settings.where import AddressSettings

LONG_BYTES = 16 << 10
"""Of an answer that is not read in the event loop."""
LOOK_SECONDS = 1.0
"""Between two looks at a version that is to become ready."""
CHOICE_SECONDS = 5.0
"""For which READY waits for the choice of what is counted."""
UNVERIFIED = "that it is this version its address says alone: its engine does not tell."

_log = logging.getLogger(__name__)


class AddressLoader:
    """Brings versions of one registered model to READY; implements `Loader`."""

    start_bytes = 0

    def __init__(self, where: AddressSettings, shared: "VersionAddresses") -> None:
        self._where = where
        self._shared = shared

    def room(self) -> Room:
        """Memory of this machine, of which these versions take none."""
        return MEMORY.room()

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> AddressWorker:
        """A worker at the version's address, once it is ready there, is this version as far as its engine
        says, and has answered its input example. Where that is required, one that can not be made a request
        is a load that failed; a version without any serves, as it does here.

        Raises LoadFailed; of it WarmUpLost where the example has no good answer of a version that has served
        before. Nothing stays connected then.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_seconds
        address = self._where.address(spec.version.model, spec.version.number)
        described = await read_description(self._shared.launcher, spec, address.engine)
        warms_up = bool(described.example) and spec.warm_up_seconds != 0.0
        if spec.warm_up_required and described.info.has_example and not warms_up:
            raise LoadFailed(described.info.note or "its warm-up was left out", phase="warmup")
        requests = Connections(self._where, lambda: self._shared.most_bytes)
        probes = Connections(self._where, lambda: PROBE_BYTES)
        probe = ReadinessProbe(spec.version, address, probes)
        scores = ChildScoreReader(self._shared.launcher, spec, address.engine, self._shared.recorder)
        began, answered = perf_counter(), None
        try:
            verified = await _until_ready(probe, spec.version, ends_at)
            phases = {"load": perf_counter() - began}
            if warms_up:
                answered = await _warm_up(requests, address, described, spec, ends_at)
                phases["warmup"] = perf_counter() - began - phases["load"]
            # What has served may be missed by its users now, and what is counted of it is known mostly.
            waits = spec.scores is None or spec.warm_up_seconds is None
            left = max(ends_at - loop.time(), LOOK_SECONDS)
            await scores.start(answered, seconds=min(left, CHOICE_SECONDS) if waits else 0.0)
            return AddressWorker(
                _info(described.info, phases, verified=verified),
                address,
                verified=verified,
                connections=requests,
                parallel=self._where.connections,
                probe=probe,
                probes=probes,
                scores=scores,
            )
        except BaseException:
            await asyncio.shield(asyncio.gather(requests.close(), probes.close(), scores.close()))
            raise


class VersionAddresses:
    """Implements `Addresses`: who brings versions to READY that run elsewhere."""

    def __init__(self, launcher: Launcher, settings: Settings, recorder: Recorder) -> None:
        """`launcher` starts the children that read what describes a version, and what it answers."""
        self.launcher = launcher
        self.recorder = recorder
        self.most_bytes = 0
        """Of one answer."""
        self._models: frozenset[str] = frozenset()
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Another configuration is in force."""
        self.most_bytes = settings.server.body_limit_bytes
        self._models = frozenset(name for name, model in settings.models.items() if model.elsewhere)

    def knows(self, model: str) -> bool:
        """Whether versions of the registered `model` run elsewhere."""
        return model in self._models

    def loader(self, where: AddressSettings) -> AddressLoader:
        """Who loads the versions of a model whose settings say so."""
        return AddressLoader(where, self)

    async def is_ready(self, where: AddressSettings, version: VersionId) -> bool:
        """Whether `version` answers at its address now. Takes 10 s at most."""
        probes = Connections(where, lambda: PROBE_BYTES)
        address = where.address(version.model, version.number)
        try:
            return (await ReadinessProbe(version, address, probes).look()).ready
        except Exception:  # noqa: BLE001 - whoever asks looks after other models too
            _log.exception("whether %s is ready at its address could not be found out", version)
            return False
        finally:
            await probes.close()


async def _until_ready(probe: ReadinessProbe, version: VersionId, ends_at: float) -> bool:
    """Whether the engine said that it is this version, once it is ready."""
    loop = asyncio.get_running_loop()
    logged: set[str] = set()
    while True:
        found = await probe.look()
        if found.ready:
            return found.verified
        if found.is_another:
            raise LoadFailed(found.why, phase="load")
        if loop.time() + LOOK_SECONDS > ends_at:
            raise LoadFailed(f"{version} was not ready in time: {found.why}", phase="load")
        if found.why not in logged:
            logged.add(found.why)
            _log.info("%s is waited for at its address: %s", version, found.why)
        await asyncio.sleep(LOOK_SECONDS)


async def _warm_up(
    connections: Connections, address: VersionAddress, described: Description, spec: LoadSpec, ends_at: float
) -> bytes:
    """Its answer to its input example."""
    left = max(ends_at - asyncio.get_running_loop().time(), LOOK_SECONDS)
    seconds = left if spec.warm_up_seconds is None else min(left, spec.warm_up_seconds)
    try:
        got = await connections.ask(
            "POST",
            address.infer,
            seconds=seconds,
            headers={"Content-Type": JSON},
            body=described.example,
        )
    except OutboundFailed as failed:
        why = str(failed)
    else:
        if got.status == 200 and (unusable := why_unusable(got)):
            why = f"its answer {unusable}"
        elif got.status == 200:
            compared = partial(unlike_signature, address.engine, got.body, described.info.outputs)
            # Others would wait for an answer that takes long to read.
            why = await asyncio.to_thread(compared) if len(got.body) > LONG_BYTES else compared()
        else:
            why = f"it answers {got.phrase}"
        if not why:
            return got.body
    sentence = f"asked its input example, {why}"
    if spec.warm_up_seconds is None:  # it has not served yet
        raise LoadFailed(sentence, phase="warmup")
    raise WarmUpLost(sentence)


def _info(info: VersionInfo, phases: dict[str, float], *, verified: bool) -> VersionInfo:
    """As an `AddressWorker` needs it."""
    note = " ".join(filter(None, [info.note, "" if verified else UNVERIFIED]))
    return replace(info, phase_seconds=phases, note=note)
