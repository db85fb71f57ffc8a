"""What serving needs from outside, as Protocols: a registry, a cache and something that loads versions."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from router.core.gate import GateEvidence
from router.core.ids import Alias, VersionId
from router.core.memory import Resident, Room
from router.core.processor_time import ProcessorTime
from router.core.routing import Assignment
from router.core.score_events import ReadResult
from router.core.version_address import AtAddress
from router.core.version_environment import VersionEnvironment
from router.errors import RequestRefused
from router.processes.process import Exit
from router.protocol.cpu_threads import CpuThreads
from router.protocol.messages import Answer, Batching, LoadSpec, Query, VersionInfo
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.settings.where import AddressSettings

DownloadTurn = Callable[[], AbstractAsyncContextManager[None]]
"""Makes a block that waits at its beginning until a download, or a build, may run in it."""


class ScoreReader(Protocol):
    """Reads the scores of answers after they went out."""

    on_chosen: Callable[[], None]
    """Called when `info` of its worker says otherwise what is counted than it did when that became READY.
    Set once, by whoever the worker is for."""

    @property
    def has_chosen(self) -> bool:
        """Whether it is settled what is counted; until then the scores of answers are lost."""

    @property
    def error(self) -> str:
        """Why no scores are read now; empty while they are."""

    @property
    def results(self) -> Mapping[ReadResult, int]:
        """What became of the scores of its version's answers so far; 0 where missing."""

    def offer(self, asked: Assignment, answer: bytes) -> None:
        """The version gave this good `answer` to a request that was assigned so. Never waits."""


class WorkerHandle(Protocol):
    """One worker that holds a READY version."""

    @property
    def info(self) -> VersionInfo:
        """What the version reported of itself."""

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None where it is no process of this machine."""

    @property
    def at_address(self) -> AtAddress | None:
        """Where its version runs, if that is elsewhere."""

    @property
    def score_reader(self) -> ScoreReader | None:
        """Who is to get its good answers once they went out; None where it counts their scores itself, or
        none are counted."""

    @property
    def apart(self) -> bool:
        """Whether its requests end each by itself: one that takes too long is given up, and the others go on;
        none is asked again when it exits. It is a promise to whoever runs elsewhere: each is sent once."""

    on_failed: Callable[[int, int, RequestRefused], None]
    """Called with number, place and reason of a request that failed while the worker lives on; it is not
    answered then. Set once, by whoever hands over requests; only where `apart`."""

    def give_up(self, number: int) -> None:
        """Nobody waits for that batch any more, and nothing is called for it. Only where `apart`."""

    @property
    def ready(self) -> Resident:
        """Its memory when it became READY."""

    def resident(self) -> Resident:
        """Its memory now; nothing when it has ended."""

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Done when the worker has ended, for whatever reason."""

    @property
    def batching(self) -> Batching:
        """Whether its requests share predicts now."""

    @property
    def parallel(self) -> int:
        """How many batches it works on at once: one while requests share predicts, else its threads."""

    def submit(
        self, queries: Sequence[Query], on_answers: Callable[[Sequence[int], Sequence[Answer]], None]
    ) -> int:
        """Hand over one batch of requests, while fewer than `parallel` are unanswered. Returns its number.

        `on_answers(places, answers)` gets what came out of one predict; each place of the batch comes once.
        """

    @property
    def to_repeat(self) -> int:
        """Requests of a shared predict that it has yet to predict once more, alone, and to compare."""

    def repeat(self, on_repeated: Callable[[], None]) -> None:
        """Have it predict the next of them, while nothing is unanswered; nothing is to be handed over until
        `on_repeated` is called."""

    def shadow(self, asked: ShadowQuery, on_compared: Callable[[Compared], None]) -> None:
        """Have it answer a copy of a request for nobody, while nothing is unanswered; nothing is to be handed
        over until `on_compared` is called with what came of it."""

    def stop_sharing(self, batching: Batching) -> None:
        """Its requests share predicts no more, for what `batching` says."""

    @property
    def cpu_threads(self) -> CpuThreads:
        """Threads for linear algebra of its predicts now, and why so many."""

    @property
    def most_cpu_threads(self) -> int:
        """How many it may use."""

    @property
    def predict_seconds(self) -> float:
        """In which predicts ran, since it was READY."""

    @property
    def processor_time(self) -> ProcessorTime:
        """Which its process took so far."""

    def limit_cpu_threads(self, most: int) -> None:
        """It may use `most` threads for linear algebra; without effect where their number is settled."""

    def hung_up(self, number: int, place: int) -> None:
        """The caller of the request at `place` of that batch hung up: it is of no use but to be over."""

    def rank(self, *, last: bool) -> None:
        """Whether the kernel, out of memory, ends it last of all workers, or first, as while it loaded."""

    def kill(self) -> None:
        """End the worker now; `exited` follows."""

    async def close(self, grace_seconds: float = 1.0) -> object:
        """Ask the worker to end, and end it after the grace."""


class Loader(Protocol):
    """Brings versions to READY."""

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> WorkerHandle:
        """A READY worker. Raises LoadFailed, of it WarmUpLost, ChildLost or ChildTimeout; leaves no process
        behind then."""

    @property
    def start_bytes(self) -> int:
        """Memory that the next load takes beside that of its worker, for what has to be started first."""

    def room(self) -> Room:
        """Memory that more workers may use."""


class Addresses(Protocol):
    """Knows versions that run elsewhere, each behind an address."""

    def loader(self, where: AddressSettings) -> Loader:
        """Brings versions to READY that run where these settings say."""

    async def is_ready(self, where: AddressSettings, version: VersionId) -> bool:
        """Whether `version` answers at its address now."""


class PreparedEnvironment(Protocol):
    """A Python environment that is on this machine, whole, and held until `Environments.retain`."""

    @property
    def about(self) -> VersionEnvironment:
        """What it is."""

    @property
    def loader(self) -> Loader:
        """Brings versions to READY in it. Its template starts with the first load."""

    @property
    def note(self) -> str:
        """What its version should be known to have got instead of what it asked for; else empty."""


class Environments(Protocol):
    """Brings the Python environments of versions to this machine."""

    async def prepare(
        self, version: VersionId, directory: str, *, turn: DownloadTurn = nullcontext
    ) -> PreparedEnvironment:
        """The environment of `version`, whose files are in `directory`: found, or resolved and built.

        What has to be built is built within a `turn`, and its deadline runs from then. Raises
        EnvironmentFailed, of it EnvironmentRefused where another try would end alike, and IndexUnreachable.
        """

    async def has(self, version: VersionId) -> bool:
        """Whether the environment that `version` was last prepared in is here, whole, and is not one of
        another release of this gateway or of MLflow: a load would build another one. Builds nothing."""

    def retain(self, versions: Collection[VersionId]) -> None:
        """Nothing here uses any other version: their templates end, and their environments may go."""


class Fetcher(Protocol):
    """Brings a version's files to this machine."""

    async def fetch(
        self,
        version: VersionId,
        *,
        deadline_seconds: float,
        fresh: bool = False,
        turn: DownloadTurn = nullcontext,
    ) -> str:
        """Absolute path of a complete directory of the version's files. Raises FetchFailed.

        A download runs within a `turn`, and its deadline runs from then; a copy that is here needs none.

        `fresh`: a copy that is here already did not load; see that it is what the registry names, and replace
        it where it is not.
        """


class CopyHolder(Protocol):
    """Knows which versions' files are on this machine."""

    async def hold_copy(self, version: VersionId) -> bool:
        """Whether the version's files are here, whole; if so they stay until `retain`. Downloads nothing."""


class Source(Protocol):
    """Says which version each alias should serve."""

    async def poll(
        self, model: str, aliases: Mapping[Alias, str], *, deadline_seconds: float | None = None
    ) -> Mapping[Alias, VersionId]:
        """All that the registry names at one instant: roles with their versions.

        `aliases` maps roles to the registry's names for them. Raises RegistryError.
        """

    async def registrations(
        self, versions: Collection[VersionId], *, deadline_seconds: float | None = None
    ) -> Mapping[VersionId, str]:
        """What the registry says of each of these `versions`, as a text that differs when it says otherwise:
        its status, when it was made, where its files lie. Raises RegistryError.
        """

    async def last_known_good(self, model: str, aliases: Mapping[Alias, str]) -> Mapping[Alias, VersionId]:
        """What served last, by this machine's own record; empty when there is none. Raises CacheRefused.

        Until a poll of `model` is good, these versions are fetched from the record alone.
        """


class GateSource(Protocol):
    """Says what the registry has of a version that has to pass the gate."""

    async def gate_evidence(
        self, version: VersionId, required: Sequence[str], *, deadline_seconds: float | None = None
    ) -> GateEvidence:
        """Its tags, what no other version shares, and which of the `required` metadata is missing. Raises
        RegistryError."""


class LastKnownGoodStore(Protocol):
    """Keeps on this machine what is good, so that a start needs no registry."""

    async def remember(self, model: str, served: Mapping[str, VersionId], pending: Collection[str]) -> None:
        """Record what serves, by the registry's names of the aliases. Raises CacheRefused.

        What was recorded of the aliases in `pending` stays; of all others it goes.
        """

    def retain(self, versions: Collection[VersionId]) -> None:
        """Nothing here uses any other version: their files may go."""


class PoolSettings(Protocol):
    """The settings of a pool; read at each use, because they may change while it serves."""

    @property
    def workers(self) -> int:
        """Processes per version."""

    @property
    def in_turn(self) -> bool:
        """Whether a worker is loaded only after the one that it replaces has ended."""

    @property
    def elsewhere(self) -> bool:
        """Whether its worker stands for a version that runs elsewhere: then there is one, none to spare, and
        nobody waits while it is gone."""

    @property
    def predict_timeout_seconds(self) -> float:
        """How long one predict may run before its worker is ended."""

    @property
    def worker_memory_mib(self) -> int | None:
        """How much a worker may grow after it was READY; None: without limit."""

    @property
    def load_memory_mib(self) -> int | None:
        """What a worker is expected to take before one was loaded; None: as the files' size says."""

    @property
    def queue_rows(self) -> int:
        """Rows that may wait for a version."""

    @property
    def max_batch_rows(self) -> int:
        """Rows that may share one predict."""
