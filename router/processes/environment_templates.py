"""A template for each environment that was built for versions, while workers are wanted of it.

Agent, downloads and builds are children of the gateway's own template, always.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from router.core.events import Recorder
from router.core.ids import VersionId
from router.core.version_environment import VersionEnvironment
from router.errors import ChildLost, ChildTimeout
from router.processes.child import Child, ChildPython, Launcher, SpawnLauncher
from router.processes.forkserver import ForkServerSupervisor
from router.processes.memory import resident
from router.processes.output import OutputRouter

_STARTS = 2
"""After so many templates in a row that ended before they could fork, it is left to the next launch."""
_KNOWN_ENVIRONMENTS = 1000
"""Whose templates' sizes are remembered; of more, the one that was asked for longest ago is forgotten."""


class EnvironmentTemplates:
    """Launches workers in environments, each from a template that runs there.

    A template is started by the first launch, and again when it dies, as the gateway's own is; its workers
    live on meanwhile. It ends when `retain` leaves its environment out and the last of its workers has ended.
    All may be called in any order, also for one environment at once, until `close`.
    """

    def __init__(
        self,
        recorder: Recorder,
        outputs: OutputRouter | None,
        temporary: Path | None,
        package_directory: Path,
        gateways: ForkServerSupervisor | None,
        *,
        launch_seconds: float = 30.0,
    ) -> None:
        """The first three, and `launch_seconds`, as `ForkServerSupervisor` takes them.

        `package_directory` is that of `ChildPython`. `gateways` is the gateway's own template, which says
        what another one is expected to take; None: on systems without pidfds, where each worker is started
        by itself and there are no templates.
        """
        self._recorder = recorder
        self._outputs = outputs
        self._temporary = temporary
        self._package_directory = package_directory
        self._gateways = gateways
        self._launch_seconds = launch_seconds
        self._templates: dict[str, _Template] = {}
        """Those that run, by the key of their environment."""
        self._leaving: set[_Template] = set()
        """Those that end after the launches that are under way: no further ones come."""
        self._used: set[str] = set()
        self._sizes: dict[str, int] = {}
        """Bytes that the template of an environment held when it was last asked for a worker."""
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def launcher(self, about: VersionEnvironment) -> Launcher:
        """Starts workers in that environment, which is used from now on, until `retain` leaves it out."""
        self._used.add(about.key)
        interpreter = ChildPython(about.interpreter, self._package_directory)
        if self._gateways is None:
            return SpawnLauncher(self._outputs, self._temporary, interpreter)
        return _EnvironmentLauncher(self, about, interpreter)

    def retain(self, keys: Collection[str]) -> None:
        """No version uses any other environment: their templates end, each after the last of its workers."""
        self._used = set(keys)
        for key, template in list(self._templates.items()):
            self._end_if_unused(key, template)

    def rebuilt(self, key: str) -> None:
        """Other files lie in that environment than its template imported: the next launch starts another one.

        Workers, and launches under way, go on.
        """
        if (template := self._templates.get(key)) is not None:
            self._let_go(key, template)

    def extra_bytes(self, key: str) -> int:
        """What the template of that environment would take that the next launch starts; 0 where one runs.

        As it took last; of one that never ran, as the gateway's own does.
        """
        if self._gateways is None or self._runs(key):
            return 0
        pid = self._gateways.pid
        return self._sizes.get(key) or (resident(pid).total if pid is not None else 0)

    async def launch(
        self,
        about: VersionEnvironment,
        interpreter: ChildPython,
        role: str,
        modules: Sequence[str],
        version: VersionId | None,
    ) -> Child:
        """As `Launcher.launch`, in that environment."""
        template = self._templates.get(about.key) or await self._start(about, interpreter)
        template.launches += 1
        try:
            child = await template.supervisor.launch(role, modules, version)
        except (ChildLost, ChildTimeout):
            if template.supervisor.gave_up:
                self._let_go(about.key, template)  # whoever tries again gets a new one
            raise
        finally:
            template.launches -= 1
            if template in self._leaving and not template.launches:
                self._leaving.discard(template)
                self._end(template)
            self._end_if_unused(about.key, template)
        self._learn(about.key, template)
        template.children.add(child)
        child.exited.add_done_callback(lambda _exited: self._child_ended(about.key, template, child))
        return child

    async def close(self) -> None:
        """Start no more, and end all of them. Workers that run are for their owners to stop."""
        self._closed = True
        templates = [*self._templates.values(), *self._leaving]
        self._templates.clear()
        self._leaving.clear()
        for template in templates:
            self._end(template)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _start(self, about: VersionEnvironment, interpreter: ChildPython) -> "_Template":
        if self._closed:
            raise ChildLost("no worker can be started: the gateway is closing")
        supervisor = ForkServerSupervisor(
            self._recorder,
            name=f"template {about.short}",
            interpreter=interpreter,
            outputs=self._outputs,
            launch_seconds=self._launch_seconds,
            temporary=self._temporary,
            starts=_STARTS,
        )
        try:
            await supervisor.start()  # which does not wait: nobody else starts one meanwhile
        except OSError as error:  # no memory, no process slot, no descriptor, or the environment went away
            raise ChildLost(f"no template can be started in its environment: {error.strerror}") from error
        self._templates[about.key] = _Template(supervisor)
        return self._templates[about.key]

    def _runs(self, key: str) -> bool:
        template = self._templates.get(key)
        return template is not None and template.supervisor.pid is not None

    def _learn(self, key: str, template: "_Template") -> None:
        if (pid := template.supervisor.pid) is None or not (size := resident(pid).total):
            return
        self._sizes.pop(key, None)
        self._sizes[key] = size
        if len(self._sizes) > _KNOWN_ENVIRONMENTS:
            del self._sizes[next(iter(self._sizes))]

    def _child_ended(self, key: str, template: "_Template", child: Child) -> None:
        template.children.discard(child)
        self._end_if_unused(key, template)

    def _end_if_unused(self, key: str, template: "_Template") -> None:
        busy = template.launches or template.children
        if key not in self._used and not busy and self._templates.get(key) is template:
            self._let_go(key, template)

    def _let_go(self, key: str, template: "_Template") -> None:
        if self._templates.get(key) is template:
            del self._templates[key]
            if template.launches:
                self._leaving.add(template)
            else:
                self._end(template)

    def _end(self, template: "_Template") -> None:
        task = asyncio.get_running_loop().create_task(template.supervisor.close(), name="end a template")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


@dataclass(eq=False, slots=True)
class _Template:
    supervisor: ForkServerSupervisor
    launches: int = 0
    """Under way."""
    children: set[Child] = field(default_factory=set)
    """That run."""


@dataclass(frozen=True, slots=True)
class _EnvironmentLauncher:
    """Implements `Launcher` for one environment."""

    templates: EnvironmentTemplates
    about: VersionEnvironment
    interpreter: ChildPython

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        return await self.templates.launch(self.about, self.interpreter, role, modules, version)

    @property
    def start_bytes(self) -> int:
        return self.templates.extra_bytes(self.about.key)

    async def close(self) -> None:
        """Nothing: `EnvironmentTemplates` ends its template."""
