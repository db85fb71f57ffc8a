"""Stand-ins for the registry, the cache and workers, steered by the tests that use them."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec.structs import replace

from router.core.events import Answered, Event
from router.core.gate import GateEvidence
from router.core.gate_record import Registered
from router.core.ids import Alias, VersionId
from router.core.memory import Resident, Room
from router.core.processor_time import ProcessorTime
from router.core.scores import OutputSpec
from router.core.shadow_comparison import NOT_COMPARED, compare_answers
from router.core.version_environment import VersionEnvironment
from router.errors import (
    CacheRefused,
    EnvironmentFailed,
    EnvironmentRefused,
    FetchFailed,
    FetchRefused,
    IndexUnreachable,
    LoadFailed,
    ModelUnknown,
    RegistryUnavailable,
    RequestRefused,
    WarmUpLost,
)
from router.processes.process import Exit
from router.protocol.cpu_threads import at_first
from router.protocol.messages import Answer, Batching, LoadSpec, PredictStatus, Query, VersionInfo
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.serving.ports import DownloadTurn, ScoreReader
from router.settings.where import AddressSettings

T = TypeVar("T")
MERGES = Batching(merges=True, why="a fake")
OnAnswers = Callable[[Sequence[int], Sequence[Answer]], None]
INFO = VersionInfo("run", "python_function", False, False, {"load": 0.01, "warmup": 0.0}, ())


def registered(version: VersionId) -> Registered:
    """What the registry says that no other version shares with it."""
    return Registered(version, "run", None, f"{version.number:012x}")


def ok(version: VersionId) -> Answer:
    body = f"v{version.number}".encode()
    return Answer(PredictStatus.OK, 200, body, "application/json", 1, 0.001, answer_rows=1)


class FakeWorker:
    """Answers its frames at once, or, when `held`, one request at each `release()`."""

    pids = iter(range(1000, 10_000))
    at_address = None

    def __init__(self, spec: LoadSpec, world: "FakeWorld") -> None:
        self.version, self.world = spec.version, world
        suggested = world.suggested.get(spec.version, ())
        chosen = suggested if spec.production_scores is None else spec.production_scores
        phases = {"load": world.load_seconds, "warmup": world.warm_up_seconds}
        self.info = replace(
            INFO,
            phase_seconds={name: took for name, took in phases.items() if took},
            scores=chosen if spec.scores is None else spec.scores,
            suggested_scores=suggested,
            mismatches=world.mismatches.get(spec.version, ()),
        )
        self.pid = next(self.pids)
        self.ready, self.grown_bytes = Resident(world.worker_bytes), 0
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.batching = world.batching
        self.parallel = 1 if world.batching.merges else world.threads
        self.to_repeat = 0
        self.cpu_threads = at_first(spec)
        self.most_cpu_threads, self.predict_seconds = self.cpu_threads.threads, 0.0
        self.processor_time = ProcessorTime()
        self.apart = world.apart
        self.score_reader = world.score_reader
        self.on_failed: Callable[[int, int, RequestRefused], None] = lambda number, place, error: None
        self.given_up: list[int] = []
        self.shadows: list[ShadowQuery] = []
        """Shadows that it was asked for."""
        self._shadow: tuple[ShadowQuery, Callable[[Compared], None]] | None = None
        self.repeats = 0
        """Requests that it was asked to repeat."""
        self.frames: list[list[Query]] = []
        self.hang_ups: list[tuple[int, int]] = []
        self.is_last = False
        """Whether the kernel, out of memory, would end it last of all workers."""
        self._unanswered: list[tuple[OnAnswers, int, Query]] = []
        self._on_repeated: Callable[[], None] | None = None

    def give_up(self, number: int) -> None:
        self.given_up.append(number)

    def hung_up(self, number: int, place: int) -> None:
        self.hang_ups.append((number, place))

    def submit(self, queries: Sequence[Query], on_answers: OnAnswers) -> int:
        if self.exited.done():
            return 0  # as into a socket that is closed: what nobody reads is not refused
        assert self._on_repeated is None, "a frame was handed over while a repeat ran"
        assert self._shadow is None, "a frame was handed over while a shadow ran"
        frames = {id(on_answers) for on_answers, _, _ in self._unanswered}
        assert len(frames) < self.parallel, "a frame was handed over before a former one was answered"
        self.frames.append(list(queries))
        self._unanswered += [(on_answers, place, query) for place, query in enumerate(queries)]
        if not self.world.held:
            asyncio.get_running_loop().call_soon(self.release_all)
        return len(self.frames)

    def repeat(self, on_repeated: Callable[[], None]) -> None:
        assert not self._unanswered, "a repeat was asked for while a request ran"
        assert self._on_repeated is None, "a repeat was asked for beside another"
        self.repeats += 1
        self._on_repeated = on_repeated
        if not self.world.held:
            asyncio.get_running_loop().call_soon(self.end_repeat)

    def shadow(self, asked: ShadowQuery, on_compared: Callable[[Compared], None]) -> None:
        assert not self._unanswered, "a shadow was asked for while a request ran"
        assert self._on_repeated is None, "a shadow was asked for beside a repeat"
        assert self._shadow is None, "a shadow was asked for beside another"
        self._shadow = asked, on_compared
        self.shadows.append(asked)
        if not self.world.held_shadows:
            asyncio.get_running_loop().call_soon(self.end_shadow)

    def end_shadow(self) -> None:
        """The shadow that it was asked for is over."""
        if self._shadow is None or self.exited.done():
            return
        (asked, on_compared), self._shadow = self._shadow, None
        answer = self.world.answer(self.version, asked.query)
        compared = NOT_COMPARED
        if asked.production is not None and answer.predict_status is PredictStatus.OK:
            compared = compare_answers(asked.production, answer.body, None, asked.cut_off)
        self.processor_time.shadowed(answer.processor_seconds, answer.processor_seconds)
        on_compared(
            Compared(
                "compared",
                0,
                answer.predict_status,
                answer.rows,
                answer.answer_rows,
                answer.all_nan,
                answer.predict_seconds,
                answer.processor_seconds,
                answer.processor_seconds,
                compared.same_type,
                compared.flips,
                compared.rows,
                compared.difference,
            )
        )

    def end_repeat(self) -> None:
        """The repeat that it was asked for is over."""
        on_repeated, self._on_repeated = self._on_repeated, None
        if on_repeated is not None and not self.exited.done():
            self.to_repeat -= 1
            on_repeated()

    def stop_sharing(self, batching: Batching) -> None:
        self.batching, self.to_repeat, self.parallel = batching, 0, self.world.threads

    def limit_cpu_threads(self, most: int) -> None:
        self.most_cpu_threads = most

    def release(self) -> None:
        """Answer the request that is there longest, by itself."""
        on_answers, place, query = self._unanswered.pop(0)
        self.grown_bytes = max(self.grown_bytes, self.world.grows_at_once) + self.world.leak
        answer = self.world.answer(self.version, query)
        self.processor_time.answered(answer.processor_seconds, answer.processor_seconds)
        on_answers((place,), (answer,))

    def release_all(self) -> None:
        while self._unanswered and not self.exited.done():
            self.release()

    def resident(self) -> Resident:
        return Resident(self.ready.total + self.grown_bytes)

    def rank(self, *, last: bool) -> None:
        self.is_last = last

    def kill(self, signal: int = 9) -> None:
        self._end(Exit(None, signal))

    async def close(self, grace_seconds: float = 1.0) -> Exit:
        self._end(Exit(0))
        return self.exited.result()

    def _end(self, how: Exit) -> None:
        self._unanswered = []
        if not self.exited.done():
            self.exited.set_result(how)


class FakeEnvironment:
    """An environment that was prepared; it loads in the world, which notes where."""

    def __init__(self, about: VersionEnvironment, world: "FakeWorld", note: str) -> None:
        self.about, self.note, self._world = about, note, world

    @property
    def loader(self) -> "FakeEnvironment":
        return self

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        assert spec.own_environment, "a version was loaded here as if it ran in the gateway's environment"
        self._world.environments.loads.append((spec.version, self.about.short))
        return await self._world.load(spec, deadline_seconds=deadline_seconds)

    @property
    def start_bytes(self) -> int:
        return self._world.environments.start_bytes

    def room(self) -> Room:
        return self._world.room()


@dataclass
class FakeEnvironments:
    """Builds an environment for each version at once, unless a test says otherwise."""

    world: "FakeWorld"
    refused: set[VersionId] = field(default_factory=set)
    """Versions of whose requirements no environment can be made."""
    broken: set[VersionId] = field(default_factory=set)
    """Those whose build fails, and may succeed later."""
    index_down: bool = False
    """Nothing can be built; what is here is found."""
    slow: asyncio.Event | None = None
    """Builds last until it is set."""
    here: set[VersionId] = field(default_factory=set)
    """Versions whose environment is on this machine; a test takes one out that is gone."""
    pins: dict[VersionId, str] = field(default_factory=dict)
    """Digests of the pins, where they are not those that follow from the version."""
    note: str = ""
    start_bytes: int = 0
    """What the template of the next environment would take."""
    prepared: list[VersionId] = field(default_factory=list)
    """Every question for one."""
    builds: list[VersionId] = field(default_factory=list)
    """Every build that began."""
    building: int = 0
    """Builds under way."""
    loads: list[tuple[VersionId, str]] = field(default_factory=list)
    """Which version was loaded in which environment, by the first digits of its key."""
    retained: set[VersionId] | None = None
    """What is used, as it was last said."""

    async def prepare(
        self, version: VersionId, directory: str, *, turn: DownloadTurn = nullcontext
    ) -> FakeEnvironment:
        assert directory == f"/cache/{version}"
        self.prepared.append(version)
        if version not in self.here:
            async with turn():
                await self._build(version)
        return FakeEnvironment(self.about(version), self.world, self.note)

    async def has(self, version: VersionId) -> bool:
        return version in self.here

    def retain(self, versions: Collection[VersionId]) -> None:
        self.retained = set(versions)

    def about(self, version: VersionId) -> VersionEnvironment:
        """The environment that `version` gets."""
        digits = f"{version.number:x}" * 64
        return VersionEnvironment(
            key=digits,
            interpreter="/opt/python3.11/bin/python3.11",
            python="3.11.7",
            pins=self.pins.get(version, digits),
            size_bytes=630_000_000,
            build_seconds=6.25,
            differences=("scikit-learn 1.5.2, the gateway has 1.7.1",),
        )

    async def _build(self, version: VersionId) -> None:
        self.builds.append(version)
        self.building += 1
        try:
            if self.slow is not None:
                await self.slow.wait()
        finally:
            self.building -= 1
        if version in self.refused:
            raise EnvironmentRefused("requirements.txt line 3: options are not accepted")
        if self.index_down:
            raise IndexUnreachable("the package index gave no answer")
        if version in self.broken:
            raise EnvironmentFailed("no space left on device")
        self.here.add(version)


@dataclass
class FakeWorld:
    """Source, fetcher and loader in one; tests change its attributes."""

    aspired: dict[str, dict[Alias, VersionId]] = field(default_factory=dict)
    registry_down: bool = False
    tags: dict[VersionId, tuple[str | None, str | None]] = field(default_factory=dict)
    """Of the gate and of an override, as the registry has them of a version."""
    tags_unreadable: bool = False
    metadata: set[str] = field(default_factory=set)
    """Names of what is known of every version."""
    gate_questions: list[VersionId] = field(default_factory=list)
    recorded: dict[str, dict[Alias, VersionId]] = field(default_factory=dict)
    """What served last, by the cache's record."""
    torn_record: bool = False
    held: bool = False
    held_shadows: bool = False
    """Shadows last until `end_shadow`."""
    batching: Batching = MERGES
    threads: int = 1
    apart: bool = False
    """Whether requests of a worker end apart, as those of a version that runs elsewhere."""
    score_reader: ScoreReader | None = None
    """Who gets the answers of workers whose scores are read later."""
    load_seconds: float = 0.01
    """What workers say their load took; it takes none of it."""
    warm_up_seconds: float = 0.0
    """And their warm-up; 0.0 where there was none."""
    slow_loads: asyncio.Event | None = None
    slow_fetches: asyncio.Event | None = None
    registered: dict[VersionId, str] = field(default_factory=dict)
    """What the registry says of versions, where it is not READY."""
    worker_bytes: int = 100 << 20
    """Of a worker when it is READY."""
    available: int = 1 << 40
    start_bytes: int = 0
    """What has to be started before the next worker in the gateway's environment takes so much."""
    grows_at_once: int = 0
    """Bytes that a worker grows by at its first answer, and no more after it."""
    leak: int = 0
    """Bytes that a worker grows by at each answer."""
    broken: set[VersionId] = field(default_factory=set)
    unfetchable: set[VersionId] = field(default_factory=set)
    forbidden: set[VersionId] = field(default_factory=set)
    workers: list[FakeWorker] = field(default_factory=list)
    answers: dict[VersionId, Answer] = field(default_factory=dict)
    suggested: dict[VersionId, tuple[OutputSpec, ...]] = field(default_factory=dict)
    """What each version's example suggests to count."""
    mismatches: dict[VersionId, tuple[str, ...]] = field(default_factory=dict)
    """What versions require that is not met where they are loaded."""
    loads: list[VersionId] = field(default_factory=list)
    unwarmable: set[VersionId] = field(default_factory=set)
    """Versions whose input example ends their worker."""
    warm_ups: list[float | None] = field(default_factory=list)
    """Of each load, how long its warm-up may take."""
    fetches: list[tuple[VersionId, bool]] = field(default_factory=list)
    copies: set[VersionId] = field(default_factory=set)
    """Versions whose files are in the cache, whole."""
    unreachable: set[VersionId] = field(default_factory=set)
    """Versions that do not answer at their addresses."""
    looks: list[VersionId] = field(default_factory=list)
    """Versions whose addresses were asked whether they are ready."""
    environments: FakeEnvironments = field(init=False)

    def __post_init__(self) -> None:
        self.environments = FakeEnvironments(self)

    async def poll(
        self, model: str, aliases: Mapping[Alias, str], *, deadline_seconds: float | None = None
    ) -> Mapping[Alias, VersionId]:
        if self.registry_down:
            raise RegistryUnavailable("connection refused")
        if model not in self.aspired:
            raise ModelUnknown(f"there is no registered model {model}")
        return self.aspired[model]

    async def registrations(
        self, versions: Collection[VersionId], *, deadline_seconds: float | None = None
    ) -> Mapping[VersionId, str]:
        if self.registry_down:
            raise RegistryUnavailable("connection refused")
        return {version: self.registered.get(version, "READY") for version in versions}

    async def gate_evidence(
        self, version: VersionId, required: Sequence[str], *, deadline_seconds: float | None = None
    ) -> GateEvidence:
        self.gate_questions.append(version)
        if self.registry_down or self.tags_unreadable:
            raise RegistryUnavailable("connection refused")
        gate, override = self.tags.get(version, (None, None))
        missing = tuple(name for name in required if name not in self.metadata)
        return GateEvidence(registered(version), gate, override, missing)

    async def last_known_good(self, model: str, aliases: Mapping[Alias, str]) -> Mapping[Alias, VersionId]:
        if self.torn_record:
            raise CacheRefused("the record is torn")
        return self.recorded.get(model, {})

    async def fetch(
        self,
        version: VersionId,
        *,
        deadline_seconds: float,
        fresh: bool = False,
        turn: DownloadTurn = nullcontext,
    ) -> str:
        async with turn():
            self.fetches.append((version, fresh))
            if self.slow_fetches is not None:
                await self.slow_fetches.wait()
        if version in self.unfetchable:
            raise FetchFailed("no space left on device")
        if version in self.forbidden:
            raise FetchRefused("its source is not below any of registry.artifact_roots")
        return f"/cache/{version}"

    async def hold_copy(self, version: VersionId) -> bool:
        return version in self.copies

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        self.loads.append(spec.version)
        if self.slow_loads is not None:
            await self.slow_loads.wait()
        self.warm_ups.append(spec.warm_up_seconds)
        if spec.version in self.unwarmable and spec.warm_up_seconds != 0.0:
            raise WarmUpLost("its worker ended while it predicted its input example: exit code 9")
        if spec.version in self.broken:
            raise LoadFailed("ValueError: broken on purpose", phase="load")
        worker = FakeWorker(spec, self)
        self.workers.append(worker)
        return worker

    def room(self) -> Room:
        return Room(self.available, f"memory.max of {self.available >> 20} MiB")

    def loader(self, where: AddressSettings) -> "FakeWorld":
        """Of versions that run elsewhere, which are no different here."""
        return self

    async def is_ready(self, where: AddressSettings, version: VersionId) -> bool:
        self.looks.append(version)
        return version not in self.unreachable

    def answer(self, version: VersionId, query: Query) -> Answer:
        return self.answers.get(version) or ok(version)

    def alive(self, version: VersionId) -> list[FakeWorker]:
        return [w for w in self.workers if w.version == version and not w.exited.done()]


@dataclass
class Facts:
    """A recorder that keeps everything."""

    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        self.events.append(event)

    def record_answer(self, answer: Answered) -> None:
        self.record(answer)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


class ScriptedWorld(FakeWorld):
    """Versions answer as a test says, per request; else with one score of 0.3."""

    def __init__(self, *args: Any, **keys: Any) -> None:
        super().__init__(*args, **keys)
        self.says: dict[VersionId, Callable[[Query], Answer]] = {}
        self.asked: dict[VersionId, list[bytes]] = {}

    def answer(self, version: VersionId, query: Query) -> Answer:
        self.asked.setdefault(version, []).append(query.body)
        return self.says.get(version, lambda _: scored(0.3))(query)


def scored(*scores: float | None, rows: int = 1, seconds: float = 0.0001) -> Answer:
    """A good answer with these scores, to so many rows, after so long a predict."""
    body = json.dumps({"predictions": scores}).encode()
    return Answer(PredictStatus.OK, 200, body, "application/json", rows, seconds, answer_rows=len(scores))
