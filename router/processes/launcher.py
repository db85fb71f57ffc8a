"""What starts children."""

from collections.abc import Sequence
from typing import Protocol

from router.core.ids import VersionId
from router.processes.child import Child


class Launcher(Protocol):
    """Starts one child per call; the children end with this process."""

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """A child in `role` (worker, agent or fetch) that waits for its first frame.

        `modules` are worth importing once for all children, where they can share them; `version`, where it is
        about one, is told beside what it prints.
        Raises ChildLost when it cannot be started, ChildTimeout when that takes too long.
        """

    async def close(self) -> None:
        """Start no more. Children that run are their owners' to close."""
