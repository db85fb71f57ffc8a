"""Copies of a version's files that one worker each may write to; what others load is not changed by it."""

import asyncio
import secrets
import shutil
from pathlib import Path

_NAME = "own-"
"""Beside the version's files, so that it goes with them; `router.agent.cache.OWN`."""


class OwnCopies:
    """Names directories for such copies, which their workers fill, and removes them."""

    def __init__(self) -> None:
        self._removals: set[asyncio.Future[None]] = set()

    def name(self, files: str) -> Path:
        """A new directory for a copy of the version in `files`, on the same disk. It is not made."""
        return Path(files).parent / f"{_NAME}{secrets.token_hex(4)}"

    def remove(self, copy: Path) -> None:
        """Remove it, soon; its worker has ended."""
        removal = asyncio.get_running_loop().run_in_executor(None, _remove, copy)
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def close(self) -> None:
        """Return when all are removed."""
        if self._removals:
            await asyncio.wait(self._removals)


def _remove(copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
