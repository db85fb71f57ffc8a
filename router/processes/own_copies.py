"""Copies of a version's files that one worker each may write to; what others load is not changed by it."""

import secrets
from pathlib import Path

from router.processes.disk import Removals

_NAME = "own-"
"""Beside the version's files, so that it goes with them; `router.agent.cache.OWN`."""


class OwnCopies:
    """Names directories for such copies, which their workers fill, and removes them."""

    def __init__(self) -> None:
        self._removals = Removals()

    def name(self, files: str) -> Path:
        """A new directory for a copy of the version in `files`, on the same disk. It is not made."""
        return Path(files).parent / f"{_NAME}{secrets.token_hex(4)}"

    def remove(self, copy: Path) -> None:
        """Remove it, soon; its worker has ended."""
        self._removals.remove(copy)

    async def close(self) -> None:
        """Remove them all, as far as the disk does so in time; what is left goes at the next start."""
        await self._removals.finish()
